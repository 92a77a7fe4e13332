"""What one answer costs, without a server: step by step, and fold-in by itself.

A sampling profile would not do: a look at the stack waits until C code returns and the next function is called, and
then takes that for the one at work.
"""

import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from matinee.core.home import Home
from matinee.core.settings import ServingSettings, Settings
from matinee.models.fold_in import best
from matinee.serving import service
from matinee.serving.app import RecommenderApp, create_app
from matinee.serving.live_history import LiveHistory
from matinee.serving.recommender import _Answering
from matinee.serving.release import Release
from matinee.serving.service import Service
from matinee.serving.telemetry import Telemetry
from matinee.serving.view import View
from serving_home import CLOCK, N_ITEMS, TOP, fold_in

STEPS = (
    ("render", RecommenderApp, ("__call__",)),
    ("choose", Service, ("recommend",)),
    ("telemetry", service, ("_served",)),
    ("telemetry", Telemetry, ("offer",)),
    ("assign", Release, ("choose",)),
    ("history", LiveHistory, ("glance",)),
    ("look up", _Answering, ("_entry",)),
    ("look up", View, ("looked_up",)),
    ("filter", _Answering, ("_ruled",)),
    ("filter", View, ("__init__", "only_free", "is_met")),
    ("fold in", _Answering, ("_folded_in",)),
    ("popularity", View, ("popular_in_segment", "popular_overall", "popular_besides")),
    ("re-rank", _Answering, ("_arranged",)),
)
"""Steps, and whose time they are: that of these functions without that of the others among them. `choose` is what
holds the steps together, `render` all of the HTTP surface: the question, the limits, the id, headers and body."""
NAMES = tuple(dict.fromkeys(step for step, _, _ in STEPS))


class Stopwatch:
    """Time spent in each step, by the functions of `STEPS`; a coroutine counts while it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(NAMES, 0.0)
        self._inside = [0.0]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take the time in this block."""
        with ExitStack() as stack:
            for step, owner, names in STEPS:
                for name in names:
                    stack.enter_context(mock.patch.object(owner, name, self._timed(step, vars(owner)[name])))
            yield

    def _timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        clock, inside, seconds = time.perf_counter, self._inside, self.seconds

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            inside.append(0.0)
            try:
                found = function(*args, **kwargs)
                return run(found) if isinstance(found, Coroutine) else found
            finally:
                took = clock() - start
                seconds[step] += took - inside.pop()
                inside[-1] += took

        return timed


def run(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise SystemExit("an answer waited for something")


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request"}


def ask(app: Any, path: str) -> str:
    """Let the application answer, without a server; the step that did."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    found = app(scope, _nothing, send)
    if found is not None:  # no stopwatch has run it
        run(found)
    if sent[0]["status"] != 200:
        raise SystemExit(f"{path} was answered with {sent[0]['status']}")
    return str(dict(sent[0]["headers"])[b"x-matinee-step"].decode())


def measure_steps(home: Home, cases: dict[str, tuple[dict[str, Any], Sequence[str], str]], seconds: float) -> Any:
    """Microseconds of each step of an answer, and of the whole, for each case: (settings, paths, expected step)."""
    return {name: _steps(home, *case, seconds) for name, case in cases.items()}


def _steps(home: Home, serving: dict[str, Any], paths: Sequence[str], expected: str, seconds: float) -> Any:
    app = create_app(Settings(home=home.path, serving=ServingSettings(**serving)), home, CLOCK)
    with _ready(app):
        for path in paths:
            ask(app, path)
        time.sleep(0.2)  # until what was folded in is in the cache
        found = {ask(app, path) for path in paths[:200]}
        if found != {expected}:
            raise SystemExit(f"answered by {sorted(found)}, not by {expected}")
        whole = _microseconds(app, paths, seconds)
    watch = Stopwatch()
    with watch.running():  # before the application is made: it takes hold of what is timed
        app = create_app(Settings(home=home.path, serving=ServingSettings(**serving)), home, CLOCK)
        with _ready(app):
            _microseconds(app, paths, 0)  # warms up
            watch.seconds.update(dict.fromkeys(NAMES, 0.0))
            _microseconds(app, paths, seconds)
    total = sum(watch.seconds.values())
    return {"whole": whole, "steps": {step: whole * took / total for step, took in watch.seconds.items() if took}}


@contextmanager
def _ready(app: RecommenderApp) -> Iterator[None]:
    app.service.start()
    try:
        end = time.monotonic() + 60
        while app.service.why_not_ready or not app.service.history.is_open:
            if time.monotonic() > end:
                raise SystemExit(f"not ready: {app.service.why_not_ready}")
            time.sleep(0.05)
        yield
    finally:
        app.service.stop()


def _microseconds(app: Any, paths: Sequence[str], seconds: float) -> float:
    """Processor time of this thread for each answer, of a hundred at least."""
    n, end = 0, time.perf_counter() + seconds
    before = time.thread_time()
    while not n or time.perf_counter() < end:
        for path in paths[:100]:
            ask(app, path)
        paths = [*paths[100:], *paths[:100]]
        n += 100
    return (time.thread_time() - before) / n * 1e6


def measure_fold_in(seconds: float, rounds: int) -> dict[str, float]:
    """Fold-ins a second, one thread, of ten items among 27,000 with 64 factors, the best hundred included."""
    model, rng = fold_in(), np.random.default_rng(4)
    asked = [rng.choice(N_ITEMS, 10, replace=False).astype(np.int32) for _ in range(200)]
    weight = np.ones(10, dtype=np.float32)
    rates = []
    for number in range(rounds + 1):
        n, start = 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            for index in asked:
                best(model.scores(index, weight), TOP)
            n += len(asked)
        if number:  # the first round warms up
            rates.append(n / (time.perf_counter() - start))
    return {"median": float(np.median(rates)), "least": min(rates), "greatest": max(rates)}


def draw(steps: Any, http: float | None, to: Path) -> None:
    """The steps' costs as a picture: a bar for each case, a colour for each step.

    Args:
        steps: what `measure_steps` found.
        http: microseconds that the server itself takes for an answer, where that was measured.
        to: the file.
    """
    import matplotlib as mpl  # noqa: PLC0415 - only a picture needs it

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.5 * len(steps)), layout="constrained")
    colours = plt.get_cmap("tab10").colors
    names = list(steps)
    left = np.zeros(len(names))
    parts = [("HTTP", [http or 0.0] * len(names), "#bbbbbb")] if http else []
    parts += [
        (step, [steps[name]["steps"].get(step, 0.0) for name in names], colours[number])
        for number, step in enumerate(NAMES)
    ]
    for label, values, colour in parts:
        if any(values):
            axes.barh(names, values, left=left, color=colour, label=label)
            left += np.array(values)
    axes.invert_yaxis()
    axes.set_xlabel("processor time of an answer, microseconds")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(to, dpi=150)
    print(f"picture: {to}", file=sys.stderr)
