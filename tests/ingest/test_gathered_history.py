"""History from a lake whose single watch events have become days."""

import pytest
from ingest_world import World, watch

from matinee.core.clock import DAY, ManualClock
from matinee.core.settings import LakeSettings
from matinee.history.lmdb import LmdbHistory
from matinee.ingest import rebuild
from matinee.ingest.rebuild import catch_up, rebuild_history
from matinee.ingest.upkeep import keep_house
from matinee.lake.lake import Lake
from matinee.lake.rollup import ROLLED_UP

ANN, BOB = "17", "23"


@pytest.fixture
def world(tmp_path):
    """Everything taken in, gathered three days after its receipt, and some more since."""
    world = World(tmp_path)
    lines = [watch(ANN, "up+2009", minute, minute) for minute in (1, 2, 3, 95)]
    world.append(*lines, watch(BOB, "jaws+1975", 1), f"2022-01-01T00:00:09,{ANN},GET /rate/jaws+1975=4")
    assert world.ingest().counts.accepted == 6
    later = ManualClock(world.clock.now_us() + 3 * DAY // 1_000_000 * 1_000_000)
    lake = Lake(world.home.resolve(world.settings.lake.url), later)
    settings = world.settings.model_copy(update={"lake": LakeSettings(keep_watches_days=1)})
    rolled_up, _ = keep_house(lake, settings, world.home, ())
    assert rolled_up.events == 5
    world.append(watch(ANN, "up+2009", 96, 300), watch(ANN, "alien+1979", 7, 400))
    world.ingest()
    return world


def told(history):
    """What matters of a history: items in order, with minutes and ratings."""
    return {
        user: sorted((entry.item, entry.minutes_seen, entry.rating) for entry in kept.entries)
        for user, kept in history.items()
    }


EXPECTED = {
    ANN: [("alien+1979", 1, None), ("jaws+1975", 0, 4.0), ("up+2009", 5, None)],
    BOB: [("jaws+1975", 1, None)],
}


def test_one_that_had_the_single_events_is_left_as_it_is(world):
    with world.stores.history() as history:
        before = dict(history.items())
        assert told(history) == EXPECTED
        catch_up(world.stores.lake(), history)
        assert dict(history.items()) == before


def test_one_made_anew_has_the_minutes_of_the_days(world):
    rebuild_history(world.home, world.stores.lake(), world.home.resolve(world.settings.history.url))
    with world.stores.history() as history:
        assert told(history) == EXPECTED
        again = dict(history.items())
        assert catch_up(world.stores.lake(), history) == 0
        assert dict(history.items()) == again


def test_one_that_was_lost_is_filled_with_them_when_ingest_starts(world):
    for file in (world.home.data / "history").iterdir():
        file.unlink()
    world.append(watch(BOB, "alien+1979", 1, 500))
    world.ingest()
    with world.stores.history() as history:
        assert told(history) == {**EXPECTED, BOB: [("alien+1979", 1, None), *EXPECTED[BOB]]}


def test_filling_that_is_broken_off_goes_on(world, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "APPLY_ROWS", 2)
    lake = world.stores.lake()
    answers = iter([False, True])
    with LmdbHistory(tmp_path / "anew") as history:
        catch_up(lake, history, stopping=lambda: next(answers, True))
        assert history.applied() == {ROLLED_UP: 2}
        catch_up(lake, history)
        assert told(history) == EXPECTED


def test_what_the_days_give_is_not_newer_than_a_bundle_trained_since(world, tmp_path):
    ends = world.stores.lake().committed_ends("events")
    assert ends[ROLLED_UP] == 5
    with LmdbHistory(tmp_path / "anew") as history:
        catch_up(world.stores.lake(), history)
        for user in (ANN, BOB):
            assert all(position < ends[source] for source, position in history.get(user).offsets.items())
