"""Where to look for good hyperparameters: a default search space for each model, and how one is written.

A space is a dict of dimensions by hyperparameter. In text: `n_factors=20..200` (whole numbers),
`lr_all=0.001..0.02:log` (on a logarithmic scale), `similarity=cosine|msd` (one of several).
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from matinee.core.errors import ConfigurationError
from matinee.models.base import Params

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Between:
    """All numbers from `low` to `high`, both included; whole ones where both are whole.

    Raises:
        ConfigurationError: the ends are not in order, or a logarithmic scale would begin at 0 or below.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigurationError(f"{self.low}..{self.high} is no range", remedy="Give the lower end first.")
        if self.log and self.low <= 0:
            raise ConfigurationError(
                f"{self.low}..{self.high}:log begins at or below 0", remedy="Begin above 0, or leave `:log` out."
            )

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some values.

    Raises:
        ConfigurationError: there is none.
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigurationError("a choice among no values", remedy="Give values, as `k=20|40`.")


Space = Mapping[str, Between | OneOf]

_GRADIENT: dict[str, Between | OneOf] = {
    "n_factors": Between(20, 200, log=True),
    "n_epochs": Between(20, 120),
    "lr_all": Between(0.002, 0.02, log=True),
    "reg_all": Between(0.01, 0.15, log=True),
}
_NEIGHBOURS: Space = {
    "k": Between(10, 120),
    "min_k": Between(1, 5),
    "min_support": Between(1, 10),
    "similarity": OneOf(("cosine", "msd", "pearson", "pearson_baseline")),
    "user_based": OneOf((True, False)),
}

SPACES: Mapping[str, Space] = {
    "als": {
        "n_factors": OneOf((32, 64, 128)),
        "n_epochs": Between(5, 20),
        "alpha": Between(0.5, 40.0, log=True),
        "reg": Between(0.01, 1.0, log=True),
    },
    "baseline_only": {"reg_i": Between(1.0, 30.0), "reg_u": Between(1.0, 30.0)},
    "bpr": {
        "n_factors": OneOf((32, 64, 128)),
        "n_epochs": Between(20, 150),
        "lr": Between(0.01, 0.2, log=True),
        "reg": Between(0.0005, 0.05, log=True),
    },
    "co_clustering": {"n_cltr_u": Between(2, 12), "n_cltr_i": Between(2, 12), "n_epochs": Between(10, 40)},
    "ease": {"reg": Between(10.0, 3000.0, log=True)},
    "item_knn": {"k": Between(20, 400, log=True), "similarity": OneOf(("cosine", "tf-idf", "bm25"))},
    "knn_baseline": _NEIGHBOURS,
    "knn_basic": _NEIGHBOURS,
    "knn_with_means": _NEIGHBOURS,
    "knn_with_z_score": _NEIGHBOURS,
    "nmf": {
        "n_factors": Between(8, 60, log=True),
        "n_epochs": Between(20, 80),
        "reg_pu": Between(0.01, 0.2, log=True),
        "reg_qi": Between(0.01, 0.2, log=True),
    },
    "rp3beta": {"k": Between(20, 400, log=True), "alpha": Between(0.4, 1.6), "beta": Between(0.0, 1.0)},
    "svd": _GRADIENT | {"init_std_dev": Between(0.005, 0.1, log=True)},
    "svdpp": _GRADIENT | {"init_std_dev": Between(0.005, 0.1, log=True)},
}
"""The default space of each model that has something to search for."""


def parse_space(texts: Iterable[str], kind: type[Params]) -> dict[str, Between | OneOf]:
    """A space from texts such as `lr_all=0.001..0.02:log`.

    Raises:
        ConfigurationError: a text is not of these forms, or the model has no such hyperparameter.
    """
    return {name: _dimension(value) for name, value in _named(texts, kind)}


def parse_grid(texts: Iterable[str], kind: type[Params]) -> dict[str, Between | OneOf]:
    """A grid from texts such as `n_factors=50,100`: every value with every other. Errors as for `parse_space`."""
    return {name: OneOf(tuple(_value(part) for part in value.split(","))) for name, value in _named(texts, kind)}


def _named(texts: Iterable[str], kind: type[Params]) -> Iterable[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and value):
            raise ConfigurationError(f"{text!r} gives no values", remedy="Write `n_factors=…`.")
        if name not in kind.model_fields:
            raise ConfigurationError(
                f"there is no hyperparameter {name!r}; there are {', '.join(kind.model_fields)}",
                remedy="Mend the name.",
            )
        yield name, value


def _dimension(text: str) -> Between | OneOf:
    if ".." not in text:
        return OneOf(tuple(_value(part) for part in text.split("|")))
    ends, _, scale = text.partition(":")
    low, high = (_value(part) for part in ends.split("..", 1))
    if isinstance(low, (bool, str)) or isinstance(high, (bool, str)) or scale not in {"", "log"}:
        raise ConfigurationError(
            f"{text!r} is no range of numbers", remedy="Write `20..200`, or `0.001..0.02:log`."
        )
    return Between(low, high, log=scale == "log")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
