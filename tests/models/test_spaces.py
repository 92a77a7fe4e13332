"""Search spaces: as they are written, and as they ship."""

import pytest

from matinee.core.errors import ConfigurationError
from matinee.models.registry import MODELS, make
from matinee.models.spaces import SPACES, Between, OneOf, parse_grid, parse_space
from matinee.models.svd import SVDParams


def test_a_space_is_read_as_it_is_written():
    texts = ["n_factors=20..200", "lr_all=0.001..0.02:log", "biased=true|false", "reg_all=0.02"]
    assert parse_space(texts, SVDParams) == {
        "n_factors": Between(20, 200),
        "lr_all": Between(0.001, 0.02, log=True),
        "biased": OneOf((True, False)),
        "reg_all": OneOf((0.02,)),
    }


def test_whole_ends_mean_whole_numbers():
    space = parse_space(["n_factors=20..200", "lr_all=0.0..1"], SVDParams)
    assert space["n_factors"].whole
    assert not space["lr_all"].whole


def test_a_grid_lists_values():
    assert parse_grid(["n_factors=50,100", "lr_all=0.005"], SVDParams) == {
        "n_factors": OneOf((50, 100)),
        "lr_all": OneOf((0.005,)),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("n_factors", "gives no values"),
        ("factors=1..2", "there is no hyperparameter 'factors'; there are n_factors"),
        ("n_factors=200..20", "no range"),
        ("lr_all=0..1:log", "at or below 0"),
        ("lr_all=a..b", "no range of numbers"),
        ("lr_all=0.1..1:linear", "no range of numbers"),
    ],
)
def test_what_cannot_be_read_is_told_with_a_remedy(text, told):
    with pytest.raises(ConfigurationError, match=told) as caught:
        parse_space([text], SVDParams)
    assert caught.value.remedy


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_default_space_fits_its_model(name):
    for parameter, dimension in SPACES[name].items():
        assert parameter in MODELS[name].params_type.model_fields
        ends = dimension.values if isinstance(dimension, OneOf) else (dimension.low, dimension.high)
        for value in ends:
            assert getattr(make(name, {parameter: value}).params, parameter) == value
