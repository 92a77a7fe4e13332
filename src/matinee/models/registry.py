"""Models by name, as configuration and manifests call them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import ConfigurationError
from matinee.models.als import ALS
from matinee.models.base import Model, validated
from matinee.models.bias import BaselineOnly
from matinee.models.popularity import Popularity
from matinee.models.svd import SVD

MODELS: Mapping[str, type[Model[Any]]] = {
    model.name: model
    for model in (
        ALS,
        BaselineOnly,
        Popularity,
        SVD,
    )
}
"""Every model, by its name."""

NAMES: tuple[str, ...] = tuple(sorted(MODELS))
"""The names of all models, sorted."""


def make(name: str, params: Mapping[str, object] | None = None) -> Model[Any]:
    """An unfitted model.

    Args:
        name: one of `NAMES`.
        params: hyperparameters; the defaults for those not given.

    Raises:
        ConfigurationError: there is no such model or parameter (the message lists what there is), or a value
            cannot be.
    """
    kind = _kind(name)
    return kind(validated(name, kind.params_type, params or {}))


def load(name: str, params: Mapping[str, object], state: Mapping[str, NDArray[np.generic]]) -> Model[Any]:
    """The fitted model whose `state` was kept. Errors as for `make`."""
    kind = _kind(name)
    return kind.from_state(validated(name, kind.params_type, params), state)


def _kind(name: str) -> type[Model[Any]]:
    if name not in MODELS:
        raise ConfigurationError(
            f"there is no model {name!r}; there are {', '.join(NAMES)}", remedy="Choose one of these names."
        )
    return MODELS[name]
