"""What the process of one model does in a comparison: cross-validate it, and tell of each fold through a pipe."""

import ctypes
import gc
import resource
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from matinee.core.clock import SystemClock
from matinee.core.errors import MatineeError, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.dataset.splits import k_folds
from matinee.evaluation.cross_validation import FoldResult, evaluate_fold
from matinee.models.base import Progress
from matinee.models.registry import make

_STEP_SECONDS = 0.1
"""Steps are told no more often."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to do; see `comparison.Options`."""

    model: str
    params: dict[str, Any]
    folds: int
    seed: int
    threads: int
    positive_rating: float


@dataclass(frozen=True, slots=True)
class Step:
    """The fit of a fold (from 0) goes on."""

    fold: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class FoldDone:
    """A fold's result, and by how much memory has risen over all folds so far."""

    result: FoldResult
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Ended:
    """There is no more to come; why, if that is not as it should be."""

    refused: str = ""


class PeakMemory:
    """By how much this process's resident memory has risen, at its highest, above what it was at the beginning.

    On Linux the kernel's high-water mark is set back at the beginning (`/proc/self/clear_refs`). Where that cannot
    be, only what rises above the highest mark before is seen. What was freed before goes back to the system first,
    else it would be used again unseen. Pages of mapped files count where they are resident.
    """

    def __init__(self) -> None:
        gc.collect()
        with suppress(OSError, AttributeError):  # glibc has it, others do not
            ctypes.CDLL(None).malloc_trim(0)
        self._before = _high_water()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
            self._before = _high_water()

    def risen(self) -> int:
        """Bytes."""
        return max(0, _high_water() - self._before)


def _high_water() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def work(pipe: "Connection[Any, Any]", task: Task, interactions: Interactions) -> None:
    """Cross-validate and tell: `Step` and `FoldDone` as they come, `Ended` at the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who started us ends us
    with suppress(BrokenPipeError):  # nobody listens any more
        try:
            _cross_validate(pipe, task, interactions)
        except MatineeError as error:
            pipe.send(Ended(" ".join(filter(None, (f"{error}.", error.remedy)))))
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - one model's fault must not cost the others' results
            pipe.send(Ended(f"failed with {type(error).__name__}: {error}"))
        else:
            pipe.send(Ended())


def _cross_validate(pipe: "Connection[Any, Any]", task: Task, interactions: Interactions) -> None:
    _compile(task, interactions.timed)
    memory = PeakMemory()
    for fold, (train, test) in enumerate(k_folds(interactions, task.folds, task.seed)):
        model = make(task.model, task.params)
        liked = bool(test.positive(task.positive_rating).any())
        if not (liked or model.capabilities.predicts_ratings):
            raise Unsuitable(
                f"nothing that is held out is liked: no rating reaches {task.positive_rating:g}",
                remedy="Lower the least rating that counts as liking (--positive-rating).",
            )
        result = evaluate_fold(
            model,
            train,
            test,
            seed=task.seed,
            threads=task.threads,
            positive_rating=task.positive_rating,
            clock=SystemClock(),
            ranking=liked,
            progress=_steps(pipe, fold),
        )
        pipe.send(FoldDone(result, memory.risen()))


def _steps(pipe: "Connection[Any, Any]", fold: int) -> Progress:
    last = -np.inf

    def tell(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= _STEP_SECONDS:
            last = time.monotonic()
            pipe.send(Step(fold, done, total))

    return tell


def _compile(task: Task, timed: bool) -> None:
    """Fit made-up data and answer from it, so that neither time nor memory of the folds holds a compiler's."""
    n = 12
    rng = np.random.default_rng(task.seed)
    user, item = (index.astype(np.int32).ravel() for index in np.indices((n, n)))
    kept = rng.random(user.size) < 0.7
    rating = rng.integers(1, 6, user.size).astype(np.float32)
    watched = np.full(user.size, np.nan, dtype=np.float32)
    times = np.arange(user.size, dtype=np.int64) if timed else None
    whole = Interactions(n, n, user, item, rating, watched, times)
    with suppress(MatineeError):  # it may ask for more data than this
        evaluate_fold(
            make(task.model, task.params),
            whole.take(kept),
            whole.take(~kept),
            seed=task.seed,
            threads=task.threads,
            positive_rating=4.0,
            clock=SystemClock(),
        )
