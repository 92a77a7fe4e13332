"""The loop: what matinee recommends, viewers follow; what they do, it learns from; and they get more of it.

Real parts from end to end: event log, ingest, lake, training with its gate, bundles, and a server process that is
asked over HTTP. Only the viewers are simulated, so that what a session gave them is known.
"""

import logging
import time

import httpx
import numpy as np

from matinee.cli.context import Context
from matinee.cli.ingest import take_in
from matinee.cli.train import release
from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.evaluation.bootstrap import paired_bootstrap
from matinee.release.plan import publish
from matinee.simulation.keeping import go_on, keep
from matinee.simulation.options import WorldOptions
from matinee.simulation.recommenders import Popularity, Random
from matinee.simulation.service import HttpRecommender
from matinee.simulation.world import World
from matinee.simulation.writing import LogWriter
from matinee.training.run import Request, train
from serving.serving_samples import server, wait_for

DAYS = 5
OPTIONS = WorldOptions(start_us=1_700_006_400_000_000, viewers=1_200, movies=300, past_ratings=12, seed=1)
MODEL = {"als": {"n_factors": 8, "reg": 0.3}}


def quiet(*_):
    pass


def learn(context):
    """Take in what is in the log, train on it, and release what passed the gate; the bundle's version."""
    take_in(context, quiet, until_idle=True)
    report = train(
        Request(models=("als",), params=MODEL), settings=context.settings, home=context.home, lake=context.lake,
        clock=context.clock, progress=quiet,
    )  # fmt: skip
    report.raise_if_refused()
    release(context, report)
    return report.bundle


def served(url, version):
    """Wait until that bundle answers."""
    end = time.monotonic() + 60
    while httpx.get(f"{url}/recommend/1").headers.get("x-model-version") != version:
        assert time.monotonic() < end, f"{version} never answered"
        time.sleep(0.05)


class Twins:
    """Worlds that were one until now, each of which lives the next day with a recommender of its own."""

    def __init__(self, path):
        self.path = path
        self.means = {}

    def live(self, name, recommender):
        world = World(OPTIONS, recommender, lambda _: None)
        go_on(world, self.path)
        pleasure, sessions = world.pleasure.copy(), world.sessions.copy()
        report = world.run_day()
        assert report.failed == 0
        with np.errstate(invalid="ignore"):
            self.means[name] = (world.pleasure - pleasure) / (world.sessions - sessions)

    def gain(self, better, worse):
        """What a viewer's sessions gave more, with its 95% interval over viewers."""
        a, b = self.means[better], self.means[worse]
        both = np.isfinite(a) & np.isfinite(b)
        assert both.sum() > 300
        return paired_bootstrap(a[both], b[both])


def lived(folder):
    """Five days with matinee, released on the first of them; then the sixth, four times over."""
    home = Home(folder / "home")
    context = Context(Settings(home=home.path), home, SystemClock())
    twins = Twins(folder / "world.npz")
    with context.log() as log, server(home) as (url, _), HttpRecommender(url, patience=60) as recommender:
        world = World(OPTIONS, recommender, LogWriter(log, seed=0))
        world.live_through_past()
        first = learn(context)
        wait_for(url)
        served(url, first)
        for _ in range(DAYS):
            assert world.run_day().failed == 0
            take_in(context, quiet, until_idle=True)
        keep(world, twins.path)
        last = learn(context)
        for name, version in (("day 1", first), ("day 5", last)):
            publish(home.data, version, clock=context.clock)
            served(url, version)
            twins.live(name, recommender)
    for yardstick in (Popularity(), Random()):
        twins.live(yardstick.name, yardstick)
    return twins


def test_viewers_get_more_from_matinee_and_more_again_once_it_has_learnt_from_them(tmp_path):
    twins = lived(tmp_path)
    for better, worse, at_least in (
        ("day 1", "popularity", 0.0),
        ("day 5", "popularity", 0.01),
        ("day 5", "random", 0.08),
        ("day 5", "day 1", 0.0),
    ):
        gain = twins.gain(better, worse)
        logging.getLogger(__name__).info(
            "%s against %s: %+.4f (%+.4f to %+.4f)", better, worse, gain.mean, gain.low, gain.high
        )
        assert gain.low > at_least, (better, worse, gain)
