"""Collaborative filtering: arrays in, arrays out.

    from matinee.models import ALS, SVD

Names are imported when first used, each with what it needs itself: a process that never names a compiled model
never loads a compiler.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matinee.models.als import ALS, ALSParams
    from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
    from matinee.models.bias import BaselineOnly, BaselineOnlyParams
    from matinee.models.blend import Blend, BlendParams
    from matinee.models.bpr import BPR, BPRParams
    from matinee.models.co_clustering import CoClustering, CoClusteringParams
    from matinee.models.ease import EASE, EASEParams
    from matinee.models.fold_in import FoldIn
    from matinee.models.item_knn import ItemKNN, ItemKNNParams
    from matinee.models.knn import KNNBaseline, KNNBaselineParams, KNNBasic, KNNWithMeans, KNNWithZScore
    from matinee.models.neighbours import KNNParams
    from matinee.models.nmf import NMF, NMFParams
    from matinee.models.normal_predictor import NormalPredictor, NormalPredictorParams
    from matinee.models.popularity import Popularity, PopularityParams
    from matinee.models.preference import confidence
    from matinee.models.registry import MODELS, NAMES, load, make
    from matinee.models.rp3beta import RP3beta, RP3betaParams
    from matinee.models.slope_one import SlopeOne, SlopeOneParams
    from matinee.models.svd import SVD, SVDParams
    from matinee.models.svdpp import SVDpp, SVDppParams

__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "MODELS",
    "NAMES",
    "NMF",
    "SVD",
    "ALSParams",
    "BPRParams",
    "BaselineOnly",
    "BaselineOnlyParams",
    "Blend",
    "BlendParams",
    "Capabilities",
    "CoClustering",
    "CoClusteringParams",
    "EASEParams",
    "FoldIn",
    "ItemKNN",
    "ItemKNNParams",
    "KNNBaseline",
    "KNNBaselineParams",
    "KNNBasic",
    "KNNParams",
    "KNNWithMeans",
    "KNNWithZScore",
    "Model",
    "NMFParams",
    "NormalPredictor",
    "NormalPredictorParams",
    "Params",
    "Popularity",
    "PopularityParams",
    "Progress",
    "RP3beta",
    "RP3betaParams",
    "SVDParams",
    "SVDpp",
    "SVDppParams",
    "SlopeOne",
    "SlopeOneParams",
    "State",
    "WarmStart",
    "confidence",
    "load",
    "make",
]

_NAMES = {
    "als": "ALS ALSParams",
    "base": "Capabilities Model Params Progress State WarmStart",
    "bias": "BaselineOnly BaselineOnlyParams",
    "blend": "Blend BlendParams",
    "bpr": "BPR BPRParams",
    "co_clustering": "CoClustering CoClusteringParams",
    "ease": "EASE EASEParams",
    "fold_in": "FoldIn",
    "item_knn": "ItemKNN ItemKNNParams",
    "knn": "KNNBaseline KNNBaselineParams KNNBasic KNNWithMeans KNNWithZScore",
    "neighbours": "KNNParams",
    "nmf": "NMF NMFParams",
    "normal_predictor": "NormalPredictor NormalPredictorParams",
    "popularity": "Popularity PopularityParams",
    "preference": "confidence",
    "registry": "MODELS NAMES load make",
    "rp3beta": "RP3beta RP3betaParams",
    "slope_one": "SlopeOne SlopeOneParams",
    "svd": "SVD SVDParams",
    "svdpp": "SVDpp SVDppParams",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

if not TYPE_CHECKING:  # a type checker sees the imports above, and so a name that is not there

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
