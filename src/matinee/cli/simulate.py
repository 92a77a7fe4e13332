"""`matinee simulate`: a streaming service's viewers, who ask a recommender, and what they got from it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from matinee.cli.context import JsonOption
from matinee.cli.output import Bars, aside, bars, complain, emit, people
from matinee.cli.simulate_told import HEADER, introduction, moral, nobody_answered, row
from matinee.core.clock import DAY, SECOND, SystemClock
from matinee.core.errors import ConfigurationError
from matinee.core.signals import ended_by_signals
from matinee.simulation.options import MINUTES_A_DAY, WorldOptions

if TYPE_CHECKING:
    from matinee.simulation.adversaries import Adversary
    from matinee.simulation.recommenders import Recommender
    from matinee.simulation.report import DayReport
    from matinee.simulation.world import World, Write

UNENDING_BEGINS_DAYS_AGO = 30
"""When a world without end begins unless told otherwise: it catches up with the present, at its pace."""


@dataclass(frozen=True, slots=True)
class Story:
    """What is asked, where lines go, and for how long."""

    target: str
    options: WorldOptions
    days: int
    pace: float | None
    lines: str | None
    keep: Path | None
    adversaries: tuple[str, ...]
    apis: int | None


def run(
    target: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="A recommender that answers `GET URL/recommend/<user>`; or a yardstick that needs none: "
            "`popularity`, `random`, `nothing`.",
        ),
    ] = "http://127.0.0.1:8080",
    days: Annotated[int, typer.Option(min=0, help="Days to live through; 0: without end, up to the present.")] = 3,
    viewers: Annotated[int, typer.Option(min=1, help="Viewers; their ids are 1, 2, …")] = 1_000,
    items: Annotated[int, typer.Option(min=1, max=48_000, help="Movies.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and start, same world.")] = 0,
    past: Annotated[
        float, typer.Option(min=0, help="Ratings of the average viewer from before the world begins.")
    ] = 20.0,
    start: Annotated[
        str | None,
        typer.Option(help="First day, as 2026-11-01.", show_default="so that the last day was yesterday"),
    ] = None,
    lines: Annotated[
        str | None,
        typer.Option(
            help="Where the service's log lines go: a file (appended to), or an event log, `sqlite:///PATH`, "
            "`kafka://HOST:PORT/TOPIC`.",
            show_default="nowhere",
        ),
    ] = None,
    dirt: Annotated[float, typer.Option(min=0, max=1, help="The share of lines that are dirty.")] = 0.001,
    pace: Annotated[
        float | None,
        typer.Option(min=0.001, help="Minutes of the world a second, at most.", show_default="as fast as can be"),
    ] = None,
    adversary: Annotated[
        list[str] | None,
        typer.Option(
            help="What happens besides, as KIND@DAY+HOURS; may be given several times. Kinds: `outage`, "
            "`bad-model`, `trend`, `broken-client`; `push-` or `nuke-` with `random`, `average` or `bandwagon`.",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Keep the world in this file, each midnight and at the end, and go on from what it holds.",
            show_default="no",
        ),
    ] = None,
    apis: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Loopback port of two APIs, as badly behaved as real ones, that describe the "
            "movies and viewers meanwhile; 0: a free one.",
            show_default="none",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let viewers with tastes use a recommender, and tell what they got from it.

    They ask for lists, look from the top, watch what attracts them, sometimes rate it, and sometimes find something
    on their own. For each day: the pleasure of a session (0 to 1) had nothing been recommended (**alone**), as it
    was (**got**), and with the **best** lists there are; the **regret**, best − got; the part of what recommending
    can give that was **given**; the share of viewing that lists **caused** (else something else, or nothing, had
    been watched); how concentrated viewing is (**Gini**, and what the **top 1%** of
    movies gets). Best, regret and given are of sampled sessions, the rest of all. An ask that fails, or takes more
    than 600 ms, leaves its viewer alone; where all fail, the status is 1. Ctrl-C ends it with what there is.

        matinee simulate popularity                    # lists of what is popular
        matinee simulate http://127.0.0.1:8080         # a service, the same viewers
        matinee simulate random --adversary outage@1   # nobody answers on day 1
        matinee simulate nothing --lines lines.log     # a stream for an ingest
    """
    story = Story(
        target=target,
        options=WorldOptions(
            start_us=_start_us(start, days),
            viewers=viewers,
            movies=items,
            seed=seed,
            past_ratings=past,
            dirt=dirt,
        ),
        days=days,
        pace=pace,
        lines=lines,
        keep=keep,
        adversaries=tuple(adversary or ()),
        apis=apis,
    )
    document = tell(story, quiet=as_json)
    nobody = nobody_answered(document)
    if as_json:
        emit(
            document
            if nobody is None
            else document | {"error": str(nobody), "kind": type(nobody).__name__, "remedy": nobody.remedy}
        )
    else:
        people.print(moral(document), soft_wrap=True)
        if nobody is not None:
            complain(nobody, as_json=False)
    if nobody is not None:
        raise typer.Exit(1)


def tell(story: Story, *, quiet: bool) -> dict[str, Any]:
    """Let the world live; returns its days as JSON values, and prints each unless it is to be quiet."""
    from matinee.simulation.pace import Pace, live  # noqa: PLC0415 - a verb imports what it uses

    days: list[DayReport] = []
    clock = SystemClock()
    with ExitStack() as stack:
        told = stack.enter_context(ended_by_signals())
        progress = stack.enter_context(bars(quiet=quiet))
        world, adversaries = _begin(story, stack)

        def day_ended(report: "DayReport") -> None:
            days.append(report)
            _keep(story, world)
            if not quiet:
                people.print(row(report), markup=False, soft_wrap=True)

        if not quiet:
            people.print(
                introduction(world.options, world.minute, story.target, story.lines, adversaries), soft_wrap=True
            )
            people.print(f"[bold]{HEADER}[/]", soft_wrap=True)
        live(
            world,
            until=story.days * MINUTES_A_DAY or None,
            pace=Pace(story.pace, not_ahead=story.days == 0),
            clock=clock,
            stopping=told,
            day_ended=day_ended,
            minute_passed=_clock_face(progress),
        )
        _keep(story, world)
    return {
        "target": story.target,
        "options": asdict(world.options),
        "adversaries": [adversary.as_dict() for adversary in adversaries],
        "minutes": world.minute,
        "days": [report.as_dict() for report in days],
    }


def _begin(story: Story, stack: ExitStack) -> "tuple[World, list[Adversary]]":
    """The world with its past, or as it was kept, and what happens to it; the stack closes what it opened."""
    from matinee.simulation.adversaries import parse_adversaries  # noqa: PLC0415
    from matinee.simulation.catalogue import make_catalogue  # noqa: PLC0415
    from matinee.simulation.keeping import go_on, kept_options  # noqa: PLC0415
    from matinee.simulation.world import World  # noqa: PLC0415

    options, goes_on = story.options, story.keep is not None and story.keep.exists()
    if story.keep is not None and goes_on:
        options = replace(options, start_us=kept_options(story.keep).start_us)
    catalogue = make_catalogue(options)
    adversaries = parse_adversaries(story.adversaries, options, catalogue)
    happening = [adversary.disturbance for adversary in adversaries]
    world = World(options, _recommender(story.target, stack), _writer(story, stack), happening)
    if story.keep is not None and goes_on:
        go_on(world, story.keep)
    else:
        world.live_through_past()
    if story.apis is not None:
        _describe(world, story.apis, stack)
    return world, adversaries


def _describe(world: "World", port: int, stack: ExitStack) -> None:
    """Serve the APIs that describe movies and viewers, until the stack is closed."""
    from matinee.simulation.apis import Apis, Manners  # noqa: PLC0415

    manners = Manners.bad(world.options.seed)
    people_of = world.people
    apis = stack.enter_context(Apis(people_of.catalogue, people_of.viewers, manners, port=port))
    aside.print(f"Movies are described at {apis.item_url}, viewers at {apis.user_url}.", markup=False)


def _recommender(target: str, stack: ExitStack) -> "Recommender":
    from matinee.simulation.recommenders import YARDSTICKS  # noqa: PLC0415
    from matinee.simulation.service import HttpRecommender  # noqa: PLC0415

    if target in YARDSTICKS:
        return YARDSTICKS[target]()
    if not target.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"{target!r} is neither a URL nor a yardstick",
            remedy=f"Give the address of a recommender, http://HOST:PORT, or one of {', '.join(YARDSTICKS)}.",
        )
    return stack.enter_context(HttpRecommender(target))


def _writer(story: Story, stack: ExitStack) -> "Write":
    if story.lines is None:
        return lambda _lines: None
    if "://" in story.lines:
        from matinee.log.open import open_log  # noqa: PLC0415
        from matinee.simulation.writing import LogWriter  # noqa: PLC0415

        log = stack.enter_context(open_log(story.lines, SystemClock(), appends=True))
        return LogWriter(log, story.options.seed)
    path = Path(story.lines)
    try:
        file = stack.enter_context(path.open("ab"))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}", remedy="Give --lines another place."
        ) from error
    return lambda lines: file.writelines(line + b"\n" for line in lines)


def _keep(story: Story, world: "World") -> None:
    from matinee.simulation.keeping import keep  # noqa: PLC0415

    if story.keep is not None:
        keep(world, story.keep)


def _start_us(start: str | None, days: int) -> int:
    """Midnight of the first day, UTC microseconds."""
    if start is None:
        today = SystemClock().now_us() // DAY
        return (today - (days or UNENDING_BEGINS_DAYS_AGO)) * DAY
    try:
        first = datetime.strptime(start, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigurationError(f"--start {start!r} is no day", remedy="Write it as 2026-11-01.") from error
    return (first - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * SECOND


def _clock_face(progress: Bars) -> Callable[[int], None]:
    def passed(minute: int) -> None:
        day, within = divmod(minute - 1, MINUTES_A_DAY)
        progress(f"day {day}", within + 1, MINUTES_A_DAY)

    return passed
