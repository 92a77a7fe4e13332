"""The end of the demo: viewers who follow what they are shown, with popularity and with matinee, side by side."""

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from matinee.cli.context import Context
from matinee.cli.demo_live import serving
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
DAYS = 2
MODEL = ("als", {"n_factors": 8, "reg": 0.3})
TOLD_FORMAT = 1
_PATIENCE_SECONDS = 10.0  # the laptop may be busy with everything else


def live_world(context: Context, progress: Bars) -> dict[str, Any]:
    """Let the same viewers live with popularity and with matinee; what came of it, as JSON values.

    It has a home of its own, `data/world/` in the demo's; what is kept there is told again.
    """
    home = Home(context.home.data / "world")
    told = home.data / "told.json"
    try:
        return dict(read_json(told, format_version=TOLD_FORMAT)["world"])
    except FileNotFoundError:
        pass
    its = Context(context.settings.model_copy(update={"home": home.path}), home, context.clock)
    found = _compare(its, _options(context), progress)
    write_json(told, {"format_version": TOLD_FORMAT, "world": found})
    return found


def _options(context: Context) -> "WorldOptions":
    from matinee.simulation.options import WorldOptions  # noqa: PLC0415 - a verb imports what it uses

    first_day = context.clock.now_us() // DAY - DAYS
    return WorldOptions(start_us=first_day * DAY, viewers=VIEWERS, movies=MOVIES, past_ratings=20.0)


def _compare(context: Context, options: "WorldOptions", progress: Bars) -> dict[str, Any]:
    from matinee.evaluation.bootstrap import paired_bootstrap  # noqa: PLC0415
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
    """Print what the viewers got, and what to do next."""
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
        "         everything on this machine, from nothing: stream, ingest, training, servers, and viewers",
        soft_wrap=True,
    )
