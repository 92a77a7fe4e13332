"""The back ends that the conformance suite runs against. A further one is a further entry of `BACK_ENDS`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from matinee.core.clock import SystemClock
from matinee.log.base import EventLog
from matinee.log.open import open_log


@dataclass(frozen=True)
class BackEnd:
    """An empty log that can be opened as often as a test wants.

    Args:
        url: what `open_log` opens.
        partitions: those that the log has.
        destroy: loses the log, as a deleted file or topic is lost.
    """

    url: str
    partitions: tuple[int, ...]
    destroy: Callable[[], None]

    def open(self, generation: str | None = None) -> EventLog:
        return open_log(self.url, SystemClock(), generation=generation)


def _sqlite(folder: Path) -> BackEnd:
    def destroy() -> None:
        for file in folder.glob("log.sqlite*"):
            file.unlink()

    return BackEnd(f"sqlite:///{folder}/log.sqlite", (0,), destroy)


BACK_ENDS: dict[str, Callable[[Path], BackEnd]] = {"sqlite": _sqlite}


@pytest.fixture(params=sorted(BACK_ENDS))
def back_end(request, tmp_path) -> BackEnd:
    return BACK_ENDS[request.param](tmp_path)
