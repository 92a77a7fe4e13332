"""Tuned hyperparameters by name: `svd@movielens-1m` is the model `svd` with what suits MovieLens 1M."""

from collections.abc import Mapping
from typing import NamedTuple


class Preset(NamedTuple):
    """Tuned hyperparameters of one model for one kind of data."""

    params: Mapping[str, object]
    evidence: str
    """What it reached, on what, and by what search."""


PRESETS: Mapping[str, Preset] = {
    "als@movielens-1m": Preset(
        {"n_factors": 128, "n_epochs": 15, "alpha": 3.0},
        "nDCG@10 0.3891 ± 0.0025 (mean and standard deviation of 5 random folds), where the defaults have 0.3835 ± "
        "0.0021. Chosen among nine settings on the first of these folds, after two searches on inner folds had "
        "found nothing better than the defaults.",
    ),
    "blend@movielens-1m": Preset(
        {"members": ("svd@movielens-1m", "svdpp@movielens-1m", "knn_baseline@movielens-1m")},
        "RMSE 0.8393 ± 0.0020 (mean and standard deviation of 5 random folds); the best member alone has 0.8425 on "
        "the same. Its members were tuned one by one.",
    ),
    "knn_baseline@movielens-1m": Preset(
        {"k": 34, "shrinkage": 289.0, "similarity": "pearson_baseline", "user_based": False},
        "RMSE 0.8565 ± 0.0022 (mean and standard deviation of 5 random folds). Found by `matinee tune` in 12 "
        "trials; 0.8567 on a fifth that no trial saw, where the defaults have 0.8950.",
    ),
    "svd@movielens-1m": Preset(
        {
            "n_factors": 200,
            "n_epochs": 120,
            "lr_all": 0.003,
            "reg_all": 0.05,
            "reg_bu": 0.02,
            "reg_bi": 0.02,
            "init_std_dev": 0.01,
        },
        "RMSE 0.8423 ± 0.0021 (mean and standard deviation of 5 random folds), where the defaults have 0.8737 ± "
        "0.0019. Chosen among some thirty settings by RMSE on one random fifth of the ratings, held out otherwise "
        "than these folds.",
    ),
    "svdpp@movielens-1m": Preset(
        {"n_factors": 100, "n_epochs": 60, "lr_all": 0.005, "reg_all": 0.05, "init_std_dev": 0.01},
        "RMSE 0.8441 ± 0.0018 (mean and standard deviation of 5 random folds); the defaults have 0.8629 on a "
        "random fifth. Chosen by hand: on the first of these folds it was better, by 0.0026, than the best of 9 "
        "trials of `matinee tune` near it.",
    ),
}
"""Every preset that ships, by `model@data set`."""


def preset_names(model: str) -> list[str]:
    """The presets of one model, sorted."""
    return sorted(name for name in PRESETS if name.partition("@")[0] == model)
