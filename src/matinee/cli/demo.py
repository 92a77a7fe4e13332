"""`matinee demo`: the whole path on real data, from a stream to answers over HTTP."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import Bars, aside, bars, emit
from matinee.core.errors import ConfigurationError, DataUnavailable
from matinee.core.files import read_json, write_json

if TYPE_CHECKING:
    from matinee.dataset.public import PublicDataset

CANDIDATES = ("popularity", "svd", "als")
MARK_FORMAT = 1
APPEND = 5_000
SHOWN_USERS = 30


@dataclass
class Story:
    """What the demo did: seconds by step, and what the summary tells."""

    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step, and say so when it is done."""
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def run(
    data: Annotated[Path | None, typer.Option("--path", help="Folder with MovieLens 100K, if you have it.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the service on 127.0.0.1.")] = None,
    seconds: Annotated[float | None, typer.Option(help="End by itself after so many seconds of serving.")] = None,
    made_up: Annotated[
        bool, typer.Option("--made-up", help="Use a small made-up catalogue; needs no network.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """See it work: a stream is taken in, stored, learnt from, judged, and answered from.

    Replays MovieLens 100K as a streaming service's log lines, trains three models, publishes the best that
    passes the gate, serves it, and shows what three people get. Then simulated viewers, who follow what they are
    shown, tell how much more a session gives them than with lists of what is popular, and live on, each day told.
    Stays up until Ctrl-C.
    """
    from matinee.cli.demo_live import live  # noqa: PLC0415 - a verb imports what it uses
    from matinee.cli.demo_summary import show  # noqa: PLC0415
    from matinee.cli.demo_world import live_world, living, show_world  # noqa: PLC0415

    context = open_context("demo", home)
    story = Story()
    with bars(quiet=as_json) as progress:
        _prepare(context, data, story, progress, made_up=made_up)
    with live(context, port or context.settings.serving.port, story) as running:
        if not as_json:
            show(context, story)
        with bars(quiet=as_json) as progress, story.step("a world of viewers"):
            world = live_world(context, progress)
        if not as_json:
            show_world(world)
        with living(context, heard=not as_json) as viewers:
            if as_json:
                emit({"seconds": story.seconds, **story.facts, "world": world})
            running.beside(viewers).wait(seconds)


def _prepare(context: Context, data: Path | None, story: Story, progress: Bars, *, made_up: bool) -> None:
    mark = context.home.data / "demo.json"
    try:
        done = read_json(mark, format_version=MARK_FORMAT)
    except FileNotFoundError:
        done = {"format_version": MARK_FORMAT}
        _require_empty(context)
    if "released" in done:
        story.facts |= done["facts"] | {"reused": True}
        return
    dataset = _obtain(context, data, story, progress, made_up=made_up)
    with story.step("replay into the event log"):
        _replay(context, dataset, done, mark, progress)
    with story.step("ingest into lake and history"):
        _ingest(context, story, progress)
    with story.step("train, compare, publish"):
        _train(context, story, progress)
    write_json(mark, {**done, "released": True, "facts": story.facts})


def _require_empty(context: Context) -> None:
    with context.log() as log:
        used = any(end > 1 for end in log.ends().values())
    if used or context.lake.sources():
        raise ConfigurationError(
            f"{context.home.path} holds data that the demo did not put there",
            remedy="Give the demo a home of its own: `matinee demo --home /tmp/matinee-demo`.",
        )


def _obtain(context: Context, data: Path | None, story: Story, progress: Bars, *, made_up: bool) -> "PublicDataset":
    from matinee.cli.made_up import make_up  # noqa: PLC0415
    from matinee.dataset.public import load  # noqa: PLC0415

    with story.step("get the data"):
        try:
            dataset = (
                make_up()
                if made_up
                else load(
                    "movielens-100k",
                    path=data,
                    cache=context.home.data / "downloads",
                    progress=lambda done, total: progress("getting MovieLens 100K", done, total or 0),
                )
            )
        except DataUnavailable as error:
            if data is not None:
                raise
            aside.print(f"[yellow]{error}[/]\nA small made-up catalogue takes its place.", soft_wrap=True)
            dataset = make_up()
    story.facts |= {"dataset": dataset.name, "origin": dataset.origin, "users": _shown_users(dataset)}
    return dataset


def _shown_users(dataset: "PublicDataset") -> list[str]:
    """People to ask for: those who gave five stars most often among people with a middling number of ratings."""
    import polars as pl  # noqa: PLC0415

    return (
        dataset.ratings.group_by("user")
        .agg(pl.len().alias("ratings"), (pl.col("rating") == 5).sum().alias("five_stars"))
        .filter(pl.col("ratings").is_between(30, 80))
        .sort("five_stars", "user", descending=[True, False])
        .head(SHOWN_USERS)["user"]
        .to_list()
    )


def _replay(context: Context, dataset: "PublicDataset", done: dict[str, Any], mark: Path, progress: Bars) -> None:
    """Append the ratings as the service's own lines, in order of time; goes on where an earlier start ended."""
    from matinee.cli.demo_lines import as_stream  # noqa: PLC0415

    stream = as_stream(dataset)
    context.lake.upsert("items", stream.items)
    context.lake.upsert("users", stream.users)
    with context.log() as log:
        appended = int(done.get("appended", 0))
        for start in range(appended, len(stream.lines), APPEND):
            log.append(stream.lines[start : start + APPEND])
            done["appended"] = min(start + APPEND, len(stream.lines))
            write_json(mark, done)
            progress("replaying the stream", done["appended"], len(stream.lines))


def _ingest(context: Context, story: Story, progress: Bars) -> None:
    from matinee.cli.ingest import take_in  # noqa: PLC0415

    story.facts["ingested"] = take_in(context, progress, until_idle=True).as_dict()


def _train(context: Context, story: Story, progress: Bars) -> None:
    from matinee.cli.train import describe, learn  # noqa: PLC0415
    from matinee.training.run import Request  # noqa: PLC0415

    report = learn(context, Request(models=CANDIDATES), progress)
    story.facts["training"] = describe(report, published=True)
