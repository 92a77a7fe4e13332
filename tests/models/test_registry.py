"""Models by name."""

import pytest

from matinee.core.errors import ConfigurationError
from matinee.models.presets import PRESETS
from matinee.models.registry import MODELS, NAMES, load, make


def test_every_model_is_there_by_its_own_name():
    assert {"als", "baseline_only", "popularity", "svd"} <= set(NAMES)
    for name in NAMES:
        assert make(name).name == name
        assert isinstance(make(name).params, MODELS[name].params_type)


def test_parameters_are_set_and_the_rest_keep_their_defaults():
    params = make("svd", {"n_factors": 7}).params.model_dump()
    assert params["n_factors"] == 7
    assert params["n_epochs"] == 20


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ConfigurationError, match=r"'sdv'.*als, .*popularity, .*svd"):
        make("sdv")
    with pytest.raises(ConfigurationError, match="'sdv'"):
        load("sdv", {}, {})


def test_an_unknown_parameter_lists_the_known():
    with pytest.raises(ConfigurationError, match=r"no parameter factors; it has n_factors, n_epochs"):
        make("svd", {"factors": 3})


def test_a_value_that_cannot_be_is_named():
    with pytest.raises(ConfigurationError, match=r"n_factors: .*greater than 0"):
        make("als", {"n_factors": 0})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_makes_its_model(name):
    model = make(name)
    assert model.name == name.partition("@")[0]
    assert model.params == make(model.name, PRESETS[name].params).params
    assert model.params != make(model.name).params
    assert PRESETS[name].evidence


def test_a_hyperparameter_that_is_given_goes_before_the_presets():
    params = make("svd@movielens-1m", {"n_epochs": 3}).params
    assert (params.n_epochs, params.n_factors) == (3, PRESETS["svd@movielens-1m"].params["n_factors"])


def test_a_blend_of_presets_fits_and_answers(planted):
    quick = {name: {"n_epochs": 2} for name in ("svd@movielens-1m", "svdpp@movielens-1m")}
    blend = make("blend@movielens-1m", {"member_params": quick}).fit(planted)
    predicted = blend.predict(planted.user_index, planted.item_index)
    assert 1 <= predicted.min() <= predicted.max() <= 5


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ConfigurationError, match=r"no preset 'svd@mars'; of svd there are: svd@movielens-1m"):
        make("svd@mars")
    with pytest.raises(ConfigurationError, match="of popularity there are: none"):
        make("popularity@mars")
