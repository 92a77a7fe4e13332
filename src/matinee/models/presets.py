"""Tuned hyperparameters by name: `svd@movielens-1m` is the model `svd` with what suits MovieLens 1M."""

from collections.abc import Mapping
from typing import NamedTuple


class Preset(NamedTuple):
    """Tuned hyperparameters of one model for one kind of data."""

    params: Mapping[str, object]
    evidence: str
    """What it reached, on what, and by what search."""


PRESETS: Mapping[str, Preset] = {}
"""Every preset that ships, by `model@data set`."""


def preset_names(model: str) -> list[str]:
    """The presets of one model, sorted."""
    return sorted(name for name in PRESETS if name.partition("@")[0] == model)
