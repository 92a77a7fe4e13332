import asyncio
import random
from itertools import pairwise

import pytest

from matinee.core.breaker import FAILURES, LONGEST_PAUSE, SLOW_SECONDS, Breaker, CircuitOpen, State
from matinee.core.clock import ManualClock
from matinee.core.errors import StoreUnavailable


class Store:
    """Fails, or takes its time, as it is told to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.breaker = Breaker("store", self.clock, random.Random(1))
        self.fails = False
        self.seconds = 0.0
        self.calls = 0

    def ask(self) -> str:
        return self.breaker.call(self._answer)

    def ask_in_vain(self, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(StoreUnavailable):
                self.ask()

    def _answer(self) -> str:
        self.calls += 1
        self.clock.sleep(self.seconds)
        if self.fails:
            raise StoreUnavailable("away")
        return "here"


@pytest.fixture
def store() -> Store:
    return Store()


def test_it_opens_after_so_many_failures_in_a_row(store: Store):
    store.fails = True
    store.ask_in_vain(FAILURES - 1)
    store.fails = False
    assert store.ask() == "here"  # not in a row
    store.fails = True
    store.ask_in_vain(FAILURES)
    assert (store.breaker.state, store.breaker.opened) == (State.OPEN, 1)
    calls = store.calls
    with pytest.raises(CircuitOpen, match="store"):
        store.ask()
    assert store.calls == calls


def test_a_slow_call_counts_like_one_that_fails_and_its_answer_is_used(store: Store):
    store.seconds = 1.01 * SLOW_SECONDS
    assert [store.ask() for _ in range(FAILURES)] == ["here"] * FAILURES
    assert store.breaker.state is State.OPEN


def test_a_very_slow_call_counts_as_often_as_it_took_too_long(store: Store):
    store.seconds = (FAILURES - 0.5) * SLOW_SECONDS
    assert store.ask() == "here"
    assert store.breaker.state is State.CLOSED
    assert store.ask() == "here"
    assert store.breaker.state is State.OPEN


def test_one_call_that_takes_longer_than_an_answer_may_is_enough(store: Store):
    store.seconds = (FAILURES + 0.01) * SLOW_SECONDS
    assert store.ask() == "here"
    with pytest.raises(CircuitOpen):
        store.ask()


def test_one_call_is_let_through_when_the_pause_is_over_and_decides(store: Store):
    store.fails = True
    store.ask_in_vain(FAILURES)
    store.clock.sleep(LONGEST_PAUSE)
    assert store.breaker.state is State.HALF_OPEN
    calls = store.calls

    def meanwhile() -> str:
        with pytest.raises(CircuitOpen):
            store.ask()  # somebody else, while the one call is under way
        return "here"

    assert store.breaker.call(meanwhile) == "here"
    assert (store.breaker.state, store.calls) == (State.CLOSED, calls)
    store.ask_in_vain()
    assert store.breaker.state is State.CLOSED  # it counts from nothing again


def test_pauses_grow_up_to_a_limit_and_are_never_the_same(store: Store):
    store.fails = True
    store.ask_in_vain(FAILURES)
    opened_at = [store.clock.monotonic()]
    while len(opened_at) < 12:
        store.clock.sleep(0.001)
        if store.breaker.state is State.HALF_OPEN:
            store.ask_in_vain()
            opened_at.append(store.clock.monotonic())
    pauses = [b - a for a, b in pairwise(opened_at)]
    most = [min(0.1 * 2**number, LONGEST_PAUSE) for number in range(len(pauses))]
    assert all(bound / 2 <= pause <= bound + 0.0011 for pause, bound in zip(pauses, most, strict=True))
    assert len(set(pauses)) == len(pauses)


def test_after_it_closed_the_pauses_are_short_again(store: Store):
    store.fails = True
    store.ask_in_vain(FAILURES)
    for _ in range(5):
        store.clock.sleep(LONGEST_PAUSE)
        store.ask_in_vain()
    store.fails = False
    store.clock.sleep(LONGEST_PAUSE)
    assert store.ask() == "here"
    store.fails = True
    store.ask_in_vain(FAILURES)
    store.clock.sleep(0.1)
    assert store.breaker.state is State.HALF_OPEN


def test_a_failure_from_before_it_opened_does_not_prolong_the_pause(store: Store):
    def late() -> str:
        store.fails = True
        store.ask_in_vain(FAILURES)
        raise StoreUnavailable("begun when all was well")

    with pytest.raises(StoreUnavailable, match="begun"):
        store.breaker.call(late)
    assert store.breaker.opened == 1


def test_what_is_expected_to_take_long_may_be_given_more_time(store: Store):
    store.seconds = 3.0
    for _ in range(2 * FAILURES):
        assert store.breaker.call(store._answer, slow_seconds=5.0) == "here"
    assert store.breaker.state is State.CLOSED


def test_what_is_awaited_is_guarded_alike(store: Store):
    async def answer() -> str:
        return store._answer()

    def ask() -> str:
        return asyncio.run(store.breaker.call_async(answer))

    store.fails = True
    for _ in range(FAILURES):
        with pytest.raises(StoreUnavailable, match="away"):
            ask()
    with pytest.raises(CircuitOpen):
        ask()
    assert (store.calls, store.breaker.failed) == (FAILURES, FAILURES)
    store.fails = False
    store.clock.sleep(LONGEST_PAUSE)
    assert ask() == "here"
    assert store.breaker.state is State.CLOSED
    store.seconds = (FAILURES + 0.01) * SLOW_SECONDS
    assert ask() == "here"
    assert store.breaker.state is State.OPEN


def test_a_call_that_is_cancelled_decides_nothing_and_another_is_let_through(store: Store):
    async def cancelled() -> None:
        trying = asyncio.create_task(store.breaker.call_async(asyncio.Event().wait))
        await asyncio.sleep(0)
        with pytest.raises(CircuitOpen):
            store.ask()
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying

    store.fails = True
    store.ask_in_vain(FAILURES)
    store.clock.sleep(LONGEST_PAUSE)
    asyncio.run(cancelled())
    assert (store.breaker.state, store.breaker.opened) == (State.HALF_OPEN, 1)
    store.fails = False
    assert store.ask() == "here"


@pytest.mark.parametrize(
    "end",
    [asyncio.Future.cancel, lambda late: late.set_exception(StoreUnavailable("late"))],
    ids=["cancelled", "failed"],
)
def test_a_call_from_before_it_opened_is_not_taken_for_the_trial(store: Store, end):
    async def both() -> None:
        late, decides = asyncio.Future(), asyncio.Future()
        old = asyncio.create_task(store.breaker.call_async(lambda: late))
        await asyncio.sleep(0)
        store.ask_in_vain(FAILURES)
        store.clock.sleep(LONGEST_PAUSE)
        trial = asyncio.create_task(store.breaker.call_async(lambda: decides))
        await asyncio.sleep(0)
        end(late)
        with pytest.raises((asyncio.CancelledError, StoreUnavailable)):
            await old
        assert (store.breaker.state, store.breaker.opened) == (State.HALF_OPEN, 1)
        with pytest.raises(CircuitOpen):
            store.ask()  # the trial is still under way
        decides.set_result("here")
        assert await trial == "here"

    store.fails = True
    asyncio.run(both())
    assert store.breaker.state is State.CLOSED


def test_an_answer_from_before_it_opened_closes_it_and_what_the_trial_finds_counts_once(store: Store):
    async def both() -> None:
        late, decides = asyncio.Future(), asyncio.Future()
        old = asyncio.create_task(store.breaker.call_async(lambda: late, slow_seconds=2 * LONGEST_PAUSE))
        await asyncio.sleep(0)
        store.ask_in_vain(FAILURES)
        store.clock.sleep(LONGEST_PAUSE)
        trial = asyncio.create_task(store.breaker.call_async(lambda: decides))
        await asyncio.sleep(0)
        late.set_result("here")
        assert await old == "here"
        assert store.breaker.state is State.CLOSED
        decides.set_exception(StoreUnavailable("away"))
        with pytest.raises(StoreUnavailable, match="away"):
            await trial
        assert store.breaker.state is State.CLOSED
        store.ask_in_vain(FAILURES - 2)
        assert store.breaker.state is State.CLOSED
        store.ask_in_vain()
        assert store.breaker.state is State.OPEN

    store.fails = True
    asyncio.run(both())


def test_a_trial_that_an_interrupt_ends_decides_nothing_and_another_is_let_through(store: Store):
    def interrupted() -> None:
        raise KeyboardInterrupt

    store.fails = True
    store.ask_in_vain(FAILURES)
    store.clock.sleep(LONGEST_PAUSE)
    with pytest.raises(KeyboardInterrupt):
        store.breaker.call(interrupted)
    assert (store.breaker.state, store.breaker.opened) == (State.HALF_OPEN, 1)
    store.fails = False
    assert store.ask() == "here"
