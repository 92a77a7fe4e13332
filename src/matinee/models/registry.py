"""Models by name, as configuration and manifests call them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from matinee.core.errors import ConfigurationError
from matinee.models.als import ALS, ALSParams
from matinee.models.base import Model, Params
from matinee.models.bias import BaselineOnly, BaselineOnlyParams
from matinee.models.popularity import Popularity, PopularityParams
from matinee.models.svd import SVD, SVDParams


class Entry(NamedTuple):
    """A model's class and that of its hyperparameters."""

    model: type[Model]
    params: type[Params]


MODELS: Mapping[str, Entry] = {
    entry.model.name: entry
    for entry in (
        Entry(ALS, ALSParams),
        Entry(BaselineOnly, BaselineOnlyParams),
        Entry(Popularity, PopularityParams),
        Entry(SVD, SVDParams),
    )
}
"""Every model, by its name."""

NAMES: tuple[str, ...] = tuple(sorted(MODELS))
"""The names of all models, sorted."""


def make(name: str, params: Mapping[str, object] | None = None) -> Model:
    """An unfitted model.

    Args:
        name: one of `NAMES`.
        params: hyperparameters; the defaults for those not given.

    Raises:
        ConfigurationError: there is no such model or parameter (the message lists what there is), or a value
            cannot be.
    """
    entry = _entry(name)
    return _build(entry.model, _params(name, params or {}))


def load(name: str, params: Mapping[str, object], state: Mapping[str, NDArray[np.generic]]) -> Model:
    """The fitted model whose `state` was kept. Errors as for `make`."""
    return _entry(name).model.from_state(_params(name, params), state)


def _entry(name: str) -> Entry:
    if name not in MODELS:
        raise ConfigurationError(
            f"there is no model {name!r}; there are {', '.join(NAMES)}", remedy="Choose one of these names."
        )
    return MODELS[name]


def _params(name: str, given: Mapping[str, object]) -> Params:
    kind = _entry(name).params
    unknown = sorted(set(given) - set(kind.model_fields))
    if unknown:
        raise ConfigurationError(
            f"model {name!r} has no parameter {', '.join(unknown)}; it has {', '.join(kind.model_fields)}",
            remedy="Mend the parameter's name.",
        )
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        problems = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
        raise ConfigurationError(f"model {name!r}: {problems}", remedy="Mend the parameter's value.") from error


def _build(kind: type[Model], params: Params) -> Model:
    return kind(params)  # type: ignore[call-arg]  # every model takes its params; the interface cannot say so
