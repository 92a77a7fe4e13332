"""The loop: what matinee recommends, viewers follow; what they do, it learns from; and they get more of it.

Real parts from end to end: event log, ingest, lake, training with its gate, bundles, and a server process that is
asked over HTTP. Only the viewers are simulated, so that what a session gave them is known.
"""

import logging
import time

import httpx
import numpy as np
import pytest

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
OPTIONS = WorldOptions(
    start_us=1_700_006_400_000_000, viewers=1_200, movies=300, past_ratings=12, seed=1, oracle_sessions=0
)
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
    """Worlds that are alike, each of which lives some days with a recommender of its own.

    Args:
        path: where a world is kept that each goes on from; nothing: from the beginning, with its past.
    """

    def __init__(self, path=None):
        self.path = path
        self.means = {}

    def live(self, name, recommender, days=1):
        world = World(OPTIONS, recommender, lambda _: None)
        if self.path is None:
            world.live_through_past()
        else:
            go_on(world, self.path)
        before = world.pleasure.copy(), world.sessions.copy()
        assert [world.run_day().failed for _ in range(days)] == [0] * days
        self.note(name, world, *before)

    def note(self, name, world, pleasure=0, sessions=0):
        """What a session gave each viewer since there were so much pleasure and so many sessions."""
        with np.errstate(invalid="ignore"):
            self.means[name] = (world.pleasure - pleasure) / (world.sessions - sessions)

    def gain(self, better, worse):
        """What a viewer's sessions gave more, with its 95% interval over viewers."""
        a, b = self.means[better], self.means[worse]
        both = np.isfinite(a) & np.isfinite(b)
        assert both.sum() > 300
        return paired_bootstrap(a[both], b[both])


def lived(folder):
    """Five days with matinee, released on the first, and with each yardstick; then the sixth, four times over."""
    home = Home(folder / "home")
    context = Context(Settings(home=home.path), home, SystemClock())
    five_days, sixth = Twins(), Twins(folder / "world.npz")
    with context.log() as log, server(home) as (url, _), HttpRecommender(url, patience=60) as recommender:
        world = World(OPTIONS, recommender, LogWriter(log, seed=0))
        world.live_through_past()
        first = learn(context)
        wait_for(url)
        served(url, first)
        for _ in range(DAYS):
            assert world.run_day().failed == 0
            take_in(context, quiet, until_idle=True)
        five_days.note("matinee", world)
        keep(world, sixth.path)
        last = learn(context)
        for name, version in (("day 1", first), ("day 5", last)):
            publish(home.data, version, clock=context.clock)
            served(url, version)
            sixth.live(name, recommender)
    for yardstick in (Popularity(), Random()):
        five_days.live(yardstick.name, yardstick, DAYS)
        sixth.live(yardstick.name, yardstick)
    return five_days, sixth


@pytest.mark.timeout(900)  # six days of real asks, on a machine that does other work besides
def test_viewers_get_more_from_matinee_and_more_again_once_it_has_learnt_from_them(tmp_path):
    five_days, sixth = lived(tmp_path)
    for twins, better, worse, at_least in (
        (five_days, "matinee", "popularity", 0.02),
        (five_days, "matinee", "random", 0.12),
        (sixth, "day 1", "popularity", 0.0),
        (sixth, "day 5", "popularity", 0.01),
        (sixth, "day 5", "random", 0.08),
        (sixth, "day 5", "day 1", 0.0),
    ):
        gain = twins.gain(better, worse)
        logging.getLogger(__name__).info(
            "%s against %s: %+.4f (%+.4f to %+.4f)", better, worse, gain.mean, gain.low, gain.high
        )
        assert gain.low > at_least, (better, worse, gain)
