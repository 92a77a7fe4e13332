"""The end of the demo: viewers who follow what they are shown, with popularity and with matinee, side by side.

With matinee they then live on, for as long as the demo is up.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from matinee.cli.context import Context
from matinee.cli.demo_live import of_home, serving, start, stop, wait_until_ready
from matinee.cli.ingest import take_in
from matinee.cli.output import Bars, people
from matinee.cli.train import learn
from matinee.core.clock import DAY
from matinee.core.files import read_json, write_json
from matinee.core.home import Home
from matinee.operation.layout import free_ports

if TYPE_CHECKING:
    from matinee.simulation.options import WorldOptions

VIEWERS = 1_000
MOVIES = 300
PAST_RATINGS = 20.0
DIRT = 0.001
DAYS = 2
BEGINS_DAYS_AGO = 30
"""So that there is something to catch up with for as long as somebody looks."""
MINUTES_A_SECOND = 10.0
"""A day in two and a half minutes."""
MODEL = ("als", {"n_factors": 8, "reg": 0.3})
TOLD_FORMAT = 2
_PATIENCE_SECONDS = 10.0  # the laptop may be busy with everything else


def live_world(context: Context, progress: Bars) -> dict[str, Any]:
    """Let the same viewers live with popularity and with matinee; what came of it, as JSON values.

    It has a home of its own, `data/world/` in the demo's; what is kept there is told again.
    """
    its = _of_world(context)
    told = its.home.data / "told.json"
    with suppress(FileNotFoundError):
        found = read_json(told, format_version=TOLD_FORMAT)
        if _kept(its).exists():  # not so in format 1
            return dict(found["world"])
    found = _compare(its, _options(context), progress)
    write_json(told, {"format_version": TOLD_FORMAT, "world": found})
    return found


@contextmanager
def living(context: Context, *, heard: bool) -> "Iterator[dict[str, subprocess.Popen[bytes]]]":
    """Let the viewers live on with matinee while the block lasts, from where they were; its processes by name.

    Args:
        context: of the demo.
        heard: whether each of their days is told on the terminal.
    """
    its = _of_world(context)
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        server = start("serve", "--port", str(port), *of_home(its))
        processes["serve (world)"] = server
        wait_until_ready(url, server)
        processes["ingest (world)"] = start("ingest", *of_home(its))
        when = context.settings.simulation.train
        processes["schedule (world)"] = start("schedule", "--train", when, *of_home(its))
        options = {
            "viewers": VIEWERS, "items": MOVIES, "past": PAST_RATINGS, "dirt": DIRT, "days": 0,
            "pace": MINUTES_A_SECOND, "lines": its.home.resolve(its.settings.log.url), "keep": _kept(its),
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        processes = {"simulate (world)": start("simulate", url, *words, heard=heard), **processes}  # ends first
        yield processes
    finally:
        stop(processes)


def _of_world(context: Context) -> Context:
    home = Home(context.home.data / "world")
    return Context(context.settings.model_copy(update={"home": home.path}), home, context.clock)


def _kept(its: Context) -> Path:
    """Where the world itself is kept between two starts."""
    return its.home.data / "world.npz"


def _options(context: Context) -> "WorldOptions":
    from matinee.simulation.options import WorldOptions  # noqa: PLC0415 - a verb imports what it uses

    first_day = context.clock.now_us() // DAY - BEGINS_DAYS_AGO
    return WorldOptions(
        start_us=first_day * DAY, viewers=VIEWERS, movies=MOVIES, past_ratings=PAST_RATINGS, dirt=DIRT
    )


def _compare(context: Context, options: "WorldOptions", progress: Bars) -> dict[str, Any]:
    from matinee.evaluation.bootstrap import paired_bootstrap  # noqa: PLC0415
    from matinee.simulation.keeping import keep  # noqa: PLC0415
    from matinee.simulation.recommenders import Popularity  # noqa: PLC0415
    from matinee.simulation.service import HttpRecommender  # noqa: PLC0415
    from matinee.simulation.world import World  # noqa: PLC0415
    from matinee.simulation.writing import LogWriter  # noqa: PLC0415

    port = free_ports(1)[0]
    popular = World(options, Popularity(), lambda _lines: None)
    popular.live_through_past()
    with context.log() as log, HttpRecommender(f"http://127.0.0.1:{port}", _PATIENCE_SECONDS) as recommender:
        world = World(options, recommender, LogWriter(log, options.seed))
        world.live_through_past()
        _learn(context, progress)
        with serving(context, port):
            days = []
            for day in range(DAYS):
                progress("a world of viewers, with popularity and with matinee", day, DAYS)
                days.append({"popularity": popular.run_day().as_dict(), "matinee": world.run_day().as_dict()})
                take_in(context, progress, until_idle=True)
        keep(world, _kept(context))
    both = (world.sessions > 0) & (popular.sessions > 0)
    a, b = (one.pleasure[both] / one.sessions[both] for one in (world, popular))
    gain = paired_bootstrap(a, b)
    return {"viewers": VIEWERS, "movies": MOVIES, "days": days, "gain": [gain.mean, gain.low, gain.high]}


def _learn(context: Context, progress: Bars) -> None:
    """Take the past in, and release what is learnt from it."""
    from matinee.training.run import Request  # noqa: PLC0415

    take_in(context, progress, until_idle=True)
    name, params = MODEL
    learn(context, Request(models=(name,), params={name: params}), progress)


def show_world(told: dict[str, Any]) -> None:
    """Print what the viewers got, and what else there is to do."""
    table = Table(
        title=f"{told['viewers']:,} simulated viewers of {told['movies']:,} movies, {len(told['days'])} days: "
        "pleasure of a session, 0 to 1",
        box=box.SIMPLE,
    )
    for name in ("with", "alone", "got", "best", "given", "caused", "Gini"):
        table.add_column(name, justify="left" if name == "with" else "right", no_wrap=True)
    for name in ("popularity", "matinee"):
        days = [day[name] for day in told["days"]]
        sessions = sum(day["sessions"] for day in days)
        means = {
            key: sum(day[key] * day["sessions"] for day in days) / sessions
            for key in ("alone", "pleasure", "best", "share", "caused", "gini")
        }
        table.add_row(
            name,
            *(f"{means[key]:.3f}" for key in ("alone", "pleasure", "best")),
            *(f"{means[key]:.0%}" for key in ("share", "caused")),
            f"{means['gini']:.2f}",
        )
    gain, low, high = told["gain"]
    people.print(table)
    people.print(
        "[dim]alone: had nothing been shown; best: the best lists there are; given: the part of what lists can "
        "give; caused: viewing that would not have been without the list; Gini: how concentrated it is[/]\n"
        f"A viewer's sessions gave [bold]{gain:+.3f}[/] with matinee against popularity (95%: {low:+.3f} to "
        f"{high:+.3f}).\n\n"
        "Next     [bold]matinee up --world 10000 --home /tmp/matinee-world[/]\n"
        "         everything on this machine, from nothing: stream, ingest, training, servers, and viewers\n\n"
        "Until Ctrl-C those with matinee live on, a day in some minutes, and it learns from them; the next "
        "`matinee demo` goes on from there.",
        soft_wrap=True,
    )
