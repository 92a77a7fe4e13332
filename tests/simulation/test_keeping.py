"""A world that is kept and taken up again is the world that went on."""

import json

import numpy as np
import pytest

from matinee.core.errors import ConfigurationError, Corrupt, FormatTooNew
from matinee.simulation import keeping
from matinee.simulation.keeping import go_on, keep, kept_options
from matinee.simulation.options import MINUTES_A_DAY, WorldOptions
from matinee.simulation.recommenders import Popularity
from matinee.simulation.world import World

# A period is a day, so that a world that has lived for one has grown.
OPTIONS = WorldOptions(start_us=1_700_006_400_000_000, viewers=200, movies=80, days=1, past_ratings=4.0, dirt=0.02)


def world(lines, options=OPTIONS):
    return World(options, Popularity(), lines.extend)


@pytest.mark.parametrize("minutes", [1, 1_259, MINUTES_A_DAY])  # people are watching at 20:59
def test_it_goes_on_as_if_it_had_never_stopped(tmp_path, minutes):
    whole, first, second = [], [], []
    uninterrupted, before = world(whole), world(first)
    for one in (uninterrupted, before):
        one.live_through_past()
    for _ in range(minutes):
        before.step()
    keep(before, tmp_path / "world.npz")
    after = world(second)
    go_on(after, tmp_path / "world.npz")
    while after.minute < MINUTES_A_DAY + 200:
        after.step()
    while uninterrupted.minute < after.minute:
        uninterrupted.step()
    assert first + second == whole
    assert len(after.people.viewers) > 200
    assert len(after.people.catalogue) > 80
    for name, array in uninterrupted.state().items():
        assert np.array_equal(array, after.state()[name]), name


def test_taking_up_copies(tmp_path):
    path = tmp_path / "world.npz"
    one = world([])
    keep(one, path)
    state = {name: array.copy() for name, array in one.state().items()}
    other = world([])
    other.take_up(state)
    other.run_day()
    assert not state["starts"].any()


def test_another_world_is_not_taken_up(tmp_path):
    path = tmp_path / "world.npz"
    keep(world([]), path)
    assert kept_options(path) == OPTIONS
    with pytest.raises(ConfigurationError, match="seed 0, not 7"):
        go_on(world([], WorldOptions(**{**OPTIONS_FIELDS, "seed": 7})), path)


def test_a_world_of_the_first_format_goes_on_and_finds_whom_it_lacks(tmp_path):
    one = world([])
    one.run_day()
    lacking = {name: array[:200] for name, array in one.state().items() if array.ndim}
    lacking |= {"minute": np.array(one.minute), "starts": one.starts[:80]}
    about = json.dumps({"format_version": 1, "options": OPTIONS_FIELDS})
    np.savez(tmp_path / "world.npz", about=np.array(about), **lacking)
    other = world([])
    go_on(other, tmp_path / "world.npz")
    for name, array in one.state().items():
        assert np.array_equal(array, other.state()[name]), name
    other.run_day()


OPTIONS_FIELDS = {name: getattr(OPTIONS, name) for name in OPTIONS.__slots__}


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"no world", lambda _: b""])
def test_what_is_no_world_is_refused(tmp_path, damage):
    path = tmp_path / "world.npz"
    keep(world([]), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Corrupt):
        kept_options(path)


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "world.npz"
    monkeypatch.setattr(keeping, "WORLD_FORMAT", keeping.WORLD_FORMAT + 1)
    keep(world([]), path)
    monkeypatch.undo()
    with pytest.raises(FormatTooNew):
        kept_options(path)
