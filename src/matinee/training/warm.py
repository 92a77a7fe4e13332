"""Warm starts: what published models had learnt, kept so that the next fit need not begin from noise.

Each is `data/warm/<version of the bundle>.npz`: arrays without pickle, the ids that their rows belong to, a header.
It stands outside the bundle, which servers map into memory. Evaluation always begins from noise, since what an
earlier model had learnt may stem from what is held out now.
"""

import hashlib
import json
import struct
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from matinee.bundle.manifest import list_bundles
from matinee.core.erasures import ERASED, read_erasures
from matinee.core.errors import Corrupt, DataUnavailable, FormatTooNew
from matinee.core.files import check_format, replacing
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.dataset.vocabulary import Vocabulary
from matinee.models.base import Model, State, WarmStart
from matinee.models.registry import make

FORMAT = 1
SHARE_OF_EPOCHS = {True: 0.25, False: 0.05}
"""The share of the epochs that a fit makes which begins from an earlier one: of models that converge, and of those
that are stopped before they overfit and so must not go on far. docs/models.md has the measurements."""

_HEADER, _IDS, _STATE = "header", "ids.", "state."
_BROKEN = (OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, struct.error, BadZipFile)
"""What reading a damaged archive raises; which of them depends on the byte."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier fit had learnt.

    Attributes:
        version: of the bundle that its model answers from.
        content: SHA-256 over everything here.
        state: the model's `state()`.
        users: ids of its users.
        items: ids of its items.
    """

    version: str
    content: str
    state: State
    users: Vocabulary
    items: Vocabulary

    def start_for(self, users: Vocabulary, items: Vocabulary) -> WarmStart:
        """A start for a fit to these users and items, whoever of them is new."""
        return WarmStart(self.state, self.users.indices(users.ids), self.items.indices(items.ids))


def keep(
    home: Home, version: str, model: Model[Any], params: Mapping[str, Any], users: Vocabulary, items: Vocabulary
) -> str | None:
    """Keep what a bundle's model has learnt, whole or not at all; models that begin anew each time have nothing to.

    Args:
        home: where.
        version: of the bundle.
        model: fitted to these users and items.
        params: the hyperparameters that were asked for; a warm fit has fewer epochs than that.
        users: their ids, in the order of the model's indices.
        items: the same.

    Returns:
        The content's hash, or nothing; nothing is kept, too, where one of the users was erased meanwhile.
    """
    erased = read_erasures(home.data / ERASED)
    if not model.capabilities.warm_starts or (erased and any(user in erased for user in users.ids)):
        return None
    arrays: State = {f"{_IDS}users": _packed(users), f"{_IDS}items": _packed(items)}
    arrays |= {f"{_STATE}{name}": array for name, array in model.state().items()}
    header = {"format_version": FORMAT, "version": version, "model": model.name, "params": dict(params)}
    content = _hash(header, arrays)
    text = json.dumps({**header, "content": content}, sort_keys=True).encode()
    with replacing(_folder(home) / f"{version}.npz") as file:  # never the whole file in memory
        np.savez(file, allow_pickle=False, **{_HEADER: np.frombuffer(text, dtype=np.uint8), **arrays})
    return content


def latest(home: Home, model: str, params: Mapping[str, Any]) -> Earlier | None:
    """What the last kept fit of this model with these hyperparameters had learnt; nothing where there is none.

    What cannot be read is logged and passed over: a fit can always begin from noise.
    """
    for path in sorted(_folder(home).glob("*.npz"), reverse=True):  # names begin with the time
        try:
            header = _header(path)
            if (header["model"], header["params"]) == (model, dict(params)):
                return _read(path)
        except (Corrupt, FormatTooNew) as error:
            _log.warning("warm_start_unreadable", file=str(path), error=str(error))
    return None


def named(home: Home, version: str, content: str) -> Earlier:
    """What the model of that bundle had learnt, for a run that is repeated.

    Raises:
        DataUnavailable: it is no longer kept.
        Corrupt: it is not what the run to repeat began from.
        FormatTooNew: a newer matinee wrote it.
    """
    path = _folder(home) / f"{version}.npz"
    if not path.is_file():
        raise DataUnavailable(
            f"the run to repeat began from what bundle {version} had learnt, and {path} is gone",
            remedy="The run is no longer repeatable. Train anew, with --cold from noise.",
        )
    found = _read(path)
    if found.content != content:
        raise Corrupt(
            f"{path} has content {found.content}; the run to repeat began from {content}",
            remedy="The run is no longer repeatable. Train anew, with --cold from noise.",
        )
    return found


def prune(home: Home) -> list[str]:
    """Delete what no run will begin from, and return the versions.

    The newest of each model stays, and what kept bundles began from, so that their runs can be repeated.
    """
    needed = {str(bundle.warm_start["version"]) for bundle in list_bundles(home.bundles) if bundle.warm_start}
    deleted: list[str] = []
    models: set[str] = set()
    for path in sorted(_folder(home).glob("*.npz"), reverse=True):
        with suppress(Corrupt, FormatTooNew):
            model = str(_header(path)["model"])
            if model not in models or path.stem in needed:
                models.add(model)
                continue
        path.unlink()
        deleted.append(path.stem)
    return deleted


def erase(home: Home, erased: Container[str]) -> list[str]:
    """Delete all that holds one of these users, or cannot be read, and return the versions.

    The next fit of such a model begins from noise. To be called while nobody trains.
    """
    deleted: list[str] = []
    for path in sorted(_folder(home).glob("*.npz")):
        with suppress(Corrupt, FormatTooNew):
            if not any(user in erased for user in _read(path).users.ids):
                continue
        path.unlink()
        deleted.append(path.stem)
    for leftover in _folder(home).glob(".*.npz.*"):  # of one that was killed while it wrote
        leftover.unlink()
    return deleted


def warm_params(model: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a fit that begins from an earlier one: fewer epochs, at least one."""
    cold = make(model, params)
    epochs = cold.params.model_dump()["n_epochs"]
    return {**params, "n_epochs": ceil(epochs * SHARE_OF_EPOCHS[cold.capabilities.converges])}


def _folder(home: Home) -> Path:
    return home.data / "warm"


def _packed(ids: Vocabulary) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(ids.ids).encode(), dtype=np.uint8)  # an id has no line break


def _unpacked(text: NDArray[np.generic]) -> Vocabulary:
    joined = text.tobytes().decode()
    return Vocabulary(joined.split("\n") if joined else ())


def _hash(header: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]) -> str:
    content = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        content.update(f"{name} {array.dtype.str} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _header(path: Path) -> dict[str, Any]:
    """The header, of a version that this program knows."""
    with _opened(path) as file:
        return _header_of(path, file)


def _read(path: Path) -> Earlier:
    with _opened(path) as file:
        header = _header_of(path, file)
        arrays: State = {name: file[name] for name in file.files if name != _HEADER}
    content = header.pop("content")
    if _hash(header, arrays) != content:
        raise Corrupt(f"{path} does not have the content it was written with", remedy="Delete it.")
    state = {name.removeprefix(_STATE): array for name, array in arrays.items() if name.startswith(_STATE)}
    users, items = (_unpacked(arrays[f"{_IDS}{name}"]) for name in ("users", "items"))
    return Earlier(header["version"], content, state, users, items)


def _header_of(path: Path, file: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(file[_HEADER].tobytes())
    check_format(str(path), header["format_version"], FORMAT)
    return header


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file's arrays by name, each read when it is asked for; what is broken is `Corrupt`."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            yield file
    except _BROKEN as error:
        raise Corrupt(f"{path} cannot be read: {error}", remedy="Delete it; a fit can begin from noise.") from error
