import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.clock import ManualClock, SystemClock
from matinee.serving.load import BEAT_SECONDS, LOWER_BEATS, RAISE_BEATS, Load, Shed

LATE = 0.025


def beats(load: Load, late: float, number: int) -> Shed:
    for _ in range(number):
        load.beat(late)
    return load.shed


def test_one_pause_is_no_overload():
    load = Load(LATE)
    for late in (0.5, 0.0, 0.5, 0.5, 0.0):
        load.beat(late)
        assert load.shed is Shed.NOTHING


@pytest.mark.parametrize(
    ("late", "shed"),
    [
        (0.024, Shed.NOTHING),
        (0.025, Shed.SCORING),
        (0.049, Shed.SCORING),
        (0.05, Shed.HISTORY),
        (9.0, Shed.HISTORY),
    ],
)
def test_how_late_decides_what_is_shed(late: float, shed: Shed):
    load = Load(LATE)
    assert beats(load, late, RAISE_BEATS - 1) is Shed.NOTHING
    assert beats(load, late, 1) is shed
    assert (load.raised, load.late_seconds) == (int(shed > 0), late)


def test_it_is_given_back_level_by_level_when_it_has_been_quiet_for_long():
    load = Load(LATE)
    assert beats(load, 0.2, RAISE_BEATS) is Shed.HISTORY
    assert beats(load, 0.0, LOWER_BEATS - 1) is Shed.HISTORY
    assert beats(load, 0.0, 1) is Shed.SCORING
    assert beats(load, 0.0, LOWER_BEATS) is Shed.NOTHING


def test_it_does_not_flutter_when_shedding_helps_just_so():
    load = Load(LATE)
    beats(load, 0.03, RAISE_BEATS)
    for _ in range(20):
        assert beats(load, 0.0, LOWER_BEATS - 1) is Shed.SCORING
        assert beats(load, 0.02, 1) is Shed.SCORING  # above half of what the level takes


@given(st.lists(st.floats(0, 10), max_size=200))
def test_it_never_sheds_for_lateness_that_was_not_there(lates: list[float]):
    load = Load(LATE)
    for at, late in enumerate(lates, 1):
        before = load.shed
        load.beat(late)
        if load.shed > before:
            assert min(lates[at - RAISE_BEATS : at]) >= LATE * load.shed


def test_answers_that_leave_a_beat_no_turn_see_that_it_is_overdue():
    load, clock = Load(LATE), ManualClock()
    assert load.shed_at(clock.monotonic() + 60) is Shed.NOTHING  # nobody beats

    async def one_turn() -> list[Shed]:
        watching = asyncio.create_task(load.watch(clock))
        await asyncio.sleep(0)
        due = clock.monotonic() + BEAT_SECONDS
        found = [load.shed_at(due + RAISE_BEATS * late) for late in (0.99 * LATE, 1.01 * LATE, 2.01 * LATE, 0.0)]
        watching.cancel()
        return found

    assert asyncio.run(one_turn()) == [Shed.NOTHING, Shed.SCORING, Shed.HISTORY, Shed.HISTORY]
    assert load.raised == 2
    assert load.late_seconds == pytest.approx(2.01 * RAISE_BEATS * LATE)
    assert beats(load, 0.0, LOWER_BEATS) is Shed.SCORING


def test_an_event_loop_that_is_kept_busy_is_seen_to_be_late():
    load, clock = Load(LATE), SystemClock()

    async def busy() -> None:
        watching = asyncio.create_task(load.watch(clock))
        end = clock.monotonic() + 20
        while load.shed < Shed.HISTORY:
            assert clock.monotonic() < end
            await asyncio.sleep(0)
            until = clock.monotonic() + BEAT_SECONDS + 3 * LATE
            while clock.monotonic() < until:
                pass
        watching.cancel()

    asyncio.run(busy())
    assert load.raised >= 1
