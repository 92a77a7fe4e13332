"""Tuned hyperparameters, kept and taken by name."""

import pytest

from matinee.core.errors import ConfigurationError
from matinee.models.presets import PRESETS
from matinee.training.tuned import keep, resolve


def test_what_is_kept_is_found_by_its_name(home):
    name = keep(home, "svd", "ours", {"n_factors": 7}, {"rmse": 0.8})
    assert name == "svd@ours"
    assert resolve(home, name) == ("svd", {"n_factors": 7})


def test_models_and_presets_need_not_be_kept(home):
    assert resolve(home, "svd") == ("svd", {})
    assert resolve(home, "svd@movielens-1m") == ("svd", dict(PRESETS["svd@movielens-1m"].params))


def test_a_later_set_replaces_the_earlier(home):
    keep(home, "svd", "ours", {"n_factors": 7}, {})
    keep(home, "svd", "ours", {"n_factors": 8}, {})
    assert resolve(home, "svd@ours")[1] == {"n_factors": 8}


def test_an_unknown_name_lists_what_there_is(home):
    keep(home, "svd", "ours", {"n_factors": 7}, {})
    with pytest.raises(ConfigurationError, match=r"'svd@mars'.*svd@movielens-1m.*svd@ours") as caught:
        resolve(home, "svd@mars")
    assert "matinee tune svd" in caught.value.remedy
    with pytest.raises(ConfigurationError, match="there is no model 'sdv'"):
        resolve(home, "sdv@ours")


@pytest.mark.parametrize("label", ["", "../ours", "Ours", "a b", "movielens-1m", "x" * 41])
def test_a_label_that_cannot_be_is_refused(home, label):
    with pytest.raises(ConfigurationError, match="cannot be the name"):
        keep(home, "svd", label, {}, {})
