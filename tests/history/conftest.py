"""The back ends that the conformance suite runs against. A further one is a further entry of `BACK_ENDS`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from matinee.history.base import History
from matinee.history.open import open_history


@dataclass(frozen=True)
class BackEnd:
    """An empty store that can be opened again and again, by one writer at a time."""

    url: str

    def open(self, read_only: bool = False) -> History:
        return open_history(self.url, read_only)


def _lmdb(folder: Path) -> BackEnd:
    return BackEnd(f"lmdb:///{folder}/history")


BACK_ENDS: dict[str, Callable[[Path], BackEnd]] = {"lmdb": _lmdb}


@pytest.fixture(params=sorted(BACK_ENDS))
def back_end(request, tmp_path) -> BackEnd:
    return BACK_ENDS[request.param](tmp_path)
