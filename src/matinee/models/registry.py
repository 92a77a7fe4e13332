"""Models by name, as configuration and manifests call them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import ConfigurationError
from matinee.models.als import ALS
from matinee.models.base import Model, validated
from matinee.models.bias import BaselineOnly
from matinee.models.blend import Blend
from matinee.models.bpr import BPR
from matinee.models.co_clustering import CoClustering
from matinee.models.ease import EASE
from matinee.models.item_knn import ItemKNN
from matinee.models.knn import KNNBaseline, KNNBasic, KNNWithMeans, KNNWithZScore
from matinee.models.nmf import NMF
from matinee.models.normal_predictor import NormalPredictor
from matinee.models.popularity import Popularity
from matinee.models.presets import PRESETS, preset_names
from matinee.models.rp3beta import RP3beta
from matinee.models.slope_one import SlopeOne
from matinee.models.svd import SVD
from matinee.models.svdpp import SVDpp

MODELS: Mapping[str, type[Model[Any]]] = {
    model.name: model
    for model in (
        ALS,
        BaselineOnly,
        Blend,
        BPR,
        CoClustering,
        EASE,
        ItemKNN,
        KNNBaseline,
        KNNBasic,
        KNNWithMeans,
        KNNWithZScore,
        NMF,
        NormalPredictor,
        Popularity,
        RP3beta,
        SlopeOne,
        SVD,
        SVDpp,
    )
}
"""Every model, by its name."""

NAMES: tuple[str, ...] = tuple(sorted(MODELS))
"""The names of all models, sorted."""


def make(name: str, params: Mapping[str, object] | None = None) -> Model[Any]:
    """An unfitted model.

    Args:
        name: one of `NAMES`, or of `PRESETS`: a model with tuned hyperparameters, as `svd@movielens-1m`.
        params: hyperparameters; those not given are the preset's, or the defaults.

    Raises:
        ConfigurationError: there is no such model or parameter (the message lists what there is), or a value
            cannot be.
    """
    kind, tuned = _kind(name)
    return kind(validated(name, kind.params_type, {**tuned, **(params or {})}))


def load(name: str, params: Mapping[str, object], state: Mapping[str, NDArray[np.generic]]) -> Model[Any]:
    """The fitted model whose `state` was kept. Errors as for `make`."""
    kind, _ = _kind(name)
    return kind.from_state(validated(name, kind.params_type, params), state)


def _kind(name: str) -> tuple[type[Model[Any]], Mapping[str, object]]:
    """The class of a model, and the hyperparameters that its name stands for."""
    model = name.partition("@")[0]
    if model not in MODELS:
        raise ConfigurationError(
            f"there is no model {model!r}; there are {', '.join(NAMES)}", remedy="Choose one of these names."
        )
    if model == name:
        return MODELS[model], {}
    if name not in PRESETS:
        there = ", ".join(preset_names(model)) or "none"
        raise ConfigurationError(
            f"there is no preset {name!r}; of {model} there are: {there}", remedy="Choose one, or leave `@…` out."
        )
    return MODELS[model], PRESETS[name].params
