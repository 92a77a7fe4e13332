"""What `soak.py` samples, when it says that something grows without bound, and its picture."""

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from scipy.stats import theilslopes

MEGABYTE = 1_000_000
HORIZON_SECONDS = 3600.0
ALLOWED_GROWTH = 0.5
"""The part of its own size that something may grow by in an hour, as the second half of the soak foretells it …"""
ALLOWED_MEGABYTES = 64.0
"""… and megabytes on top: what is small may double."""
CONFIDENCE = 0.95
"""Memory goes up and down: what counts is the lower end of this interval of the slope."""
LAKE_BYTES_A_LINE = 100.0
"""The lake is there to keep what comes; the files of its latest version may take so much of each line."""
HISTORY_BYTES_A_VIEWER = 16_000.0
"""200 items of a viewer, packed, on pages half full."""
ALLOWED_LAG_SECONDS = 30.0
"""Lines of so many seconds may be under way to the lake at the end."""
P99_LIMIT = 0.6
"""Seconds in which the scenario wants an answer."""
FAILED_SHARE = 0.001
"""The part of all requests that may get no answer."""
CLASSES = ("accepted", "repaired", "duplicate", "quarantined")
"""What becomes of a line."""


@dataclass(slots=True)
class Sample:
    """One look at everything.

    Attributes:
        seconds: since the soak began.
        pids: process id of each role; 0 where it does not run.
        memory: megabytes (PSS) of each role, those of mapped files among them.
        private: the same without mapped files, which are the disk's cache.
        disk: megabytes of each part of the home.
        lake: megabytes of the files of the lake's latest version. On disk are also those that were joined: they
            stay for `lake.keep_versions_days`, which no soak outlasts.
        end: lines in the log so far.
        lag: lines not in the lake yet.
        p99: seconds, of the answers since the sample before; None where there were none.
        answers: how many that were.
    """

    seconds: float
    pids: dict[str, int]
    memory: dict[str, float]
    private: dict[str, float]
    disk: dict[str, float]
    lake: float
    end: int
    lag: int
    p99: float | None
    answers: int


def memory_of(pid: int, others: Collection[int] = ()) -> tuple[float, float]:
    """Megabytes (PSS) of a process and all it started: all, and without mapped files.

    Those of `others` whom it started, and whom they did, are counted there.
    """
    whole = private = 0.0
    for process in _family(pid, others):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:  # it has just ended
            continue
        of = {line.split()[0]: float(line.split()[1]) for line in text.splitlines()[1:]}
        whole += of["Pss:"] * 1024 / MEGABYTE
        private += (of["Pss:"] - of["Pss_File:"]) * 1024 / MEGABYTE
    return whole, private


def _family(pid: int, others: Collection[int]) -> list[int]:
    try:
        children = [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []
    return [pid, *(one for child in children if child not in others for one in _family(child, others))]


def size_of(path: Path) -> float:
    """Megabytes on disk of a file, or of a folder with all that is in it."""
    total = 0
    for name in [path, *(Path(root) / name for root, _, names in os.walk(path) for name in names)]:
        try:
            total += name.lstat().st_blocks * 512
        except FileNotFoundError:  # it has just gone
            continue
    return total / MEGABYTE


class Asking(threading.Thread):
    """Asks for lists at a steady rate, and keeps how long each took from when it was due (an open loop).

    Args:
        url: of the balancer.
        viewers: of whom one is drawn each time.
        rate: requests a second.
    """

    def __init__(self, url: str, viewers: int, rate: float) -> None:
        super().__init__(daemon=True)
        self._url, self._viewers, self._rate = url, viewers, rate
        self._ending = threading.Event()
        self._latencies: list[float] = []
        self.steps: Counter[str] = Counter()
        """How answers were made; `failed` counts those that were none."""

    def run(self) -> None:
        """Ask until told to end."""
        random = np.random.default_rng(0)
        began = time.monotonic()
        with httpx.Client(base_url=self._url, timeout=10.0, trust_env=False) as client:
            number = 0
            while not self._ending.wait(max(0.0, began + number / self._rate - time.monotonic())):
                due = began + number / self._rate
                self.steps[self._ask(client, int(random.integers(self._viewers)) + 1)] += 1
                self._latencies.append(time.monotonic() - due)
                number += 1

    def _ask(self, client: httpx.Client, viewer: int) -> str:
        try:
            answer = client.get(f"/recommend/{viewer}")
        except httpx.HTTPError:
            return "failed"
        return answer.headers["x-matinee-step"] if answer.is_success else "failed"

    def taken(self) -> list[float]:
        """The seconds of all answers since the last call."""
        taken, self._latencies = self._latencies, []
        return taken

    def end(self) -> None:
        """End, and wait for it."""
        self._ending.set()
        self.join()


@dataclass(slots=True)
class Watch:
    """Takes the samples.

    Attributes:
        pids: process id of each role now.
        parts: what is measured on disk.
        stores: gives the lines in the log, those in the lake, and the lake's megabytes.
        asking: who asks for lists.
    """

    pids: Callable[[], dict[str, int]]
    parts: dict[str, Path]
    stores: Callable[[], tuple[int, int, float]]
    asking: Asking
    began: float = field(default_factory=time.monotonic)

    def sample(self) -> Sample:
        """Look at everything now."""
        pids = self.pids()
        memory = {role: memory_of(pid, set(pids.values())) for role, pid in pids.items()}
        latencies = self.asking.taken()
        end, held, lake = self.stores()
        return Sample(
            seconds=time.monotonic() - self.began,
            pids=pids,
            memory={role: both[0] for role, both in memory.items()},
            private={role: both[1] for role, both in memory.items()},
            disk={name: size_of(path) for name, path in self.parts.items()},
            lake=lake,
            end=end,
            lag=end - held,
            p99=float(np.percentile(latencies, 99)) if latencies else None,
            answers=len(latencies),
        )


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """The median of the slopes between all pairs of points, and the lower end of its interval.

    Outliers do not turn it (Theil 1950, Sen 1968).
    """
    found = theilslopes(y, x, CONFIDENCE)
    return float(found.slope), float(found.low_slope)


def grows(x: Sequence[float], y: Sequence[float]) -> bool:
    """Whether megabytes `y` at seconds `x` surely grow by more in `HORIZON_SECONDS` than what is allowed."""
    return slope(x, y)[1] * HORIZON_SECONDS > ALLOWED_GROWTH * statistics.median(y) + ALLOWED_MEGABYTES


def complaints(samples: Sequence[Sample], viewers: int, rate: int, unjudged: Collection[str] = ()) -> list[str]:
    """What the second half of the soak says that must not be; nothing where all is well. Restarts: all of it.

    Private memory of each role that is not `unjudged`, the log's file, the folders `logs` and `run`: `grows`. The
    lake: bytes a line. History: bytes a viewer. Lag at the end: seconds of lines. Answers: the median of the
    samples' p99.
    """
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        raise SystemExit("the soak was too short to say anything: three samples in its second half are the least")
    x = [sample.seconds for sample in half]
    judged = [role for role in half[-1].private if role not in unjudged]
    series = {f"memory of {role}": [s.private.get(role, 0.0) for s in half] for role in judged}
    series |= {f"disk of {part}": [s.disk[part] for s in half] for part in ("log", "logs", "run")}
    found = [
        f"{name} grows by {slope(x, y)[0] * HORIZON_SECONDS:,.0f} MB an hour, from {y[0]:,.0f} MB"
        for name, y in series.items()
        if grows(x, y)
    ]
    found += _broken_off(samples)
    first, last = half[0], half[-1]
    lines = last.end - first.end - (last.lag - first.lag)
    per_line = (last.lake - first.lake) * MEGABYTE / max(lines, 1)
    if per_line > LAKE_BYTES_A_LINE:
        found.append(f"the lake takes {per_line:,.0f} bytes of each line, more than {LAKE_BYTES_A_LINE:,.0f}")
    if last.disk["history"] * MEGABYTE > HISTORY_BYTES_A_VIEWER * viewers + ALLOWED_MEGABYTES * MEGABYTE:
        found.append(f"history has {last.disk['history']:,.0f} MB of {viewers:,} viewers")
    if (late := statistics.median(sample.lag for sample in half[-3:])) > rate * ALLOWED_LAG_SECONDS:
        found.append(f"{late:,.0f} lines are not in the lake, more than of {ALLOWED_LAG_SECONDS:.0f} s")
    p99 = [sample.p99 for sample in half if sample.p99 is not None]
    if not p99 or statistics.median(p99) > P99_LIMIT:
        found.append(f"p99 of the answers is {statistics.median(p99) if p99 else 'unknown'}, not {P99_LIMIT} s")
    return found


def _broken_off(samples: Sequence[Sample]) -> list[str]:
    """Roles that did not run at some look, and those that had more than one process, one after the other."""
    pids: dict[str, set[int]] = {}
    for sample in samples:
        for role, pid in sample.pids.items():
            pids.setdefault(role, set()).add(pid)
    down = [f"{role} was down" for role, of_role in pids.items() if 0 in of_role]
    return down + [f"{role} was started again" for role, of_role in pids.items() if len(of_role - {0}) > 1]


def failed(answers: Mapping[str, int], world: Mapping[str, int]) -> list[str]:
    """Who got no answer too often: the client that asked, by how it was answered, and the world's viewers."""
    of_whom = {
        "the client's": (answers.get("failed", 0), sum(answers.values())),
        "the viewers'": (world["failed"], world["requests"]),
    }
    return [
        f"{n:,} of {whose} {of:,} requests failed"
        for whose, (n, of) in of_whom.items()
        if n > FAILED_SHARE * of or not of
    ]


def lost(lines: Mapping[str, int]) -> list[str]:
    """Which sums over a soak's lines do not come out; none where nothing was lost and nothing came twice."""
    kept = lines["events_rows"] + lines["rolled_up"] + lines["received_rows"] + lines["served_rows"]
    sums = {
        "lines written and answers recorded": (lines["written"] + lines["served_rows"], lines["read"]),
        "accepted and repaired": (lines["accepted"] + lines["repaired"], kept),
        "quarantined": (lines["quarantined"], lines["quarantine_rows"]),
        "all classes": (sum(lines[name] for name in CLASSES), lines["read"]),
    }
    return [
        f"{name}: {given:,}, but the lake has {held:,}" for name, (given, held) in sums.items() if given != held
    ]


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Figures of the second half."""
    half = samples[len(samples) // 2 :]
    x = [sample.seconds for sample in half]
    p99 = [sample.p99 for sample in half if sample.p99 is not None]

    def of(values: Sequence[float]) -> dict[str, float]:
        return {
            "first": values[0],
            "last": values[-1],
            "greatest": max(values),
            "an_hour": slope(x, values)[0] * HORIZON_SECONDS,
        }

    lines = half[-1].end - half[0].end
    return {
        "lines_per_second": lines / (x[-1] - x[0]),
        "memory_megabytes": {role: of([s.memory.get(role, 0.0) for s in half]) for role in half[-1].memory},
        "private_megabytes": {role: of([s.private.get(role, 0.0) for s in half]) for role in half[-1].private},
        "disk_megabytes": {part: of([s.disk[part] for s in half]) for part in half[-1].disk},
        "lake_megabytes_of_latest_version": of([sample.lake for sample in half]),
        "lag_lines": of([float(sample.lag) for sample in half]),
        "p99_seconds": {"median": statistics.median(p99), "greatest": max(p99)} if p99 else None,
    }


def draw(samples: Sequence[Sample], heading: str, file: Path) -> None:
    """Memory, disk, lag and p99 over time."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only for the picture

    figure = Figure(figsize=(10, 7), layout="constrained")
    figure.suptitle(heading)
    panels = figure.subplots(2, 2, sharex=True).reshape(-1)
    x = [sample.seconds / 60 for sample in samples]
    for axes, heads in zip(panels[:2], ("memory", "disk"), strict=True):
        for name in getattr(samples[-1], heads):
            axes.plot(x, [getattr(s, heads).get(name) for s in samples], label=name)
        axes.set_title({"memory": "memory (PSS), MB", "disk": "on disk, MB"}[heads])
        axes.legend(fontsize="small", ncols=4, loc="upper center")
    panels[2].plot(x, [sample.lag / 1e3 for sample in samples], color="black")
    panels[2].set_title("lines not in the lake yet, thousands")
    panels[3].plot(x, [None if s.p99 is None else s.p99 * 1e3 for s in samples], color="black")
    panels[3].set_title("p99 of the answers, ms")
    for axes in panels:
        axes.grid(visible=True, alpha=0.3)
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legends
    for axes in panels[2:]:
        axes.set_xlabel("minutes")
    figure.savefig(file, dpi=110)
