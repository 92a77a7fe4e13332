"""Tuned hyperparameters that a home keeps, each set by a name such as `svd@ours`, for training to be handed."""

import re
from pathlib import Path
from typing import Any

from matinee.core.errors import ConfigurationError
from matinee.core.files import read_json, write_json
from matinee.core.home import Home
from matinee.models.presets import PRESETS
from matinee.models.registry import MODELS, make

FORMAT = 1
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")


def name_of(model: str, label: str) -> str:
    """What a kept set is called: `model@label`.

    Raises:
        ConfigurationError: the label cannot be one, or belongs to a preset that ships.
    """
    name = f"{model}@{label}"
    if _LABEL.fullmatch(label) is None or name in PRESETS:
        raise ConfigurationError(
            f"{name!r} cannot be the name of tuned hyperparameters" + (": it ships" if name in PRESETS else ""),
            remedy="Give --name: lower-case letters, digits, `.`, `_` and `-`, at most 40, that no preset has.",
        )
    return name


def keep(home: Home, model: str, label: str, params: dict[str, Any], evidence: dict[str, Any]) -> str:
    """Keep a set of hyperparameters; returns its name. One of that name is replaced. Errors as for `name_of`."""
    name = name_of(model, label)
    document = {"format_version": FORMAT, "model": model, "params": params, "evidence": evidence}
    _folder(home).mkdir(parents=True, exist_ok=True)
    write_json(_folder(home) / f"{name}.json", document)
    return name


def resolve(home: Home, name: str) -> tuple[str, dict[str, Any]]:
    """What a name given to training stands for: the model, and the hyperparameters that go with the name.

    Args:
        home: whose kept sets count beside the presets that ship.
        name: a model, a preset that ships, or what `keep` returned.

    Raises:
        ConfigurationError: there is nothing of that name; the message lists what there is.
    """
    model, at, _ = name.partition("@")
    if not at or name in PRESETS or model not in MODELS:
        fitted = make(name)
        return fitted.name, dict(PRESETS[name].params) if at else {}
    try:
        document = read_json(_folder(home) / f"{name}.json", format_version=FORMAT)
    except FileNotFoundError as error:
        there = sorted([*PRESETS, *(path.stem for path in _folder(home).glob("*@*.json"))])
        raise ConfigurationError(
            f"there are no tuned hyperparameters {name!r}; there are {', '.join(there)}",
            remedy=f"Choose one, or search for them: `matinee tune {model} …`.",
        ) from error
    return model, document["params"]


def _folder(home: Home) -> Path:
    return home.data / "tuned"
