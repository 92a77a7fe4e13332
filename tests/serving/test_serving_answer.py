from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_samples import N_ITEMS, SNAPSHOT_END, act, new_home, open_sample

from matinee.bundle.open import Bundle
from matinee.core.breaker import Breaker
from matinee.core.clock import ManualClock
from matinee.core.errors import Corrupt
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.history.record import Glance
from matinee.serving.answer import Answer, Budget, Part, Reason, Step
from matinee.serving.load import Shed
from matinee.serving.recommender import Recommender
from matinee.serving.request import Question


class Asking:
    """Asks a bundle, and keeps what the answers did without."""

    def __init__(self, bundle: Bundle, glance=None, *, seconds: float = 1.0, shed: Shed = Shed.NOTHING, **parts):
        self.bundle = bundle
        self.clock = ManualClock()
        breakers = {f"{name}_breaker": Breaker(name, self.clock) for name in ("users", "cache")}
        self.recommender = Recommender(glance or (lambda user: None), **(breakers | parts))
        self.seconds = seconds
        self.shed = shed
        self.without: list[tuple[Part, Reason | type]] = []

    def __call__(self, user: str | None, n: int = 20, **wishes) -> Answer:
        budget = Budget(self.clock, self.clock.monotonic() + self.seconds)
        question = Question(user, n, **wishes)
        return self.recommender.answer(
            question, arm="main", bundle=self.bundle, budget=budget, without=self.note, shed=self.shed
        )

    def note(self, part: Part, reason: Reason, error: Exception | None) -> None:
        self.without.append((part, type(error) if reason is Reason.ERROR else reason))


def numbers(found: Answer) -> list[int]:
    return [int(item.partition("+")[2]) for item in found.items]


def test_a_known_user_is_looked_up_with_scores(bundle: Bundle):
    found = Asking(bundle)("u004", 10)
    assert numbers(found) == list(range(4, 14))
    assert found.scores == pytest.approx(np.linspace(1, 0.1, 10), abs=1e-6)
    assert (found.step, found.arm, found.model_version) == (Step.PERSONAL, "main", bundle.version)


def test_what_the_look_up_lacks_comes_from_the_segment(bundle: Bundle):
    # u005 is in segment 1, whose order is 20, 21, …, 39, 0, …; it has seen 0 to 4 and is recommended 5 to 14.
    found = Asking(bundle)("u005", 14)
    assert numbers(found) == [*range(5, 15), 20, 21, 22, 23]
    assert (found.step, found.scores) == (Step.PERSONAL, ())


def test_what_the_look_up_lacks_comes_from_everybody_where_there_is_no_segment(bundle: Bundle):
    assert numbers(Asking(bundle)("u003", 12)) == [*range(3, 13), 39, 38]


@given(row=st.integers(0, 19), n=st.integers(1, 100))
def test_exactly_n_distinct_unseen_items_while_there_are_so_many(lasting_bundle: Bundle, row: int, n: int):
    found = numbers(Asking(lasting_bundle)(f"u{row:03d}", n))
    assert len(found) == min(n, N_ITEMS - row)
    assert len(set(found)) == len(found)
    assert min(found) >= row


@pytest.fixture(scope="module")
def lasting_bundle(tmp_path_factory: pytest.TempPathFactory):
    with open_sample(new_home(tmp_path_factory.mktemp("answers"))) as opened:
        yield opened


def test_strangers_get_what_is_popular(bundle: Bundle):
    found = Asking(bundle)("nobody", 3)
    assert (numbers(found), found.step, found.scores) == ([39, 38, 37], Step.POPULAR, ())


def test_who_did_something_since_the_snapshot_is_folded_in(bundle: Bundle, history: LmdbHistory):
    act(history, "u002", ["a+10", "a+12", "a+14"], position=SNAPSHOT_END)
    found = Asking(bundle, history.glance)("u002", 5)
    # Even items were liked, so even items come, best (lowest) first; the bundle says 0 was seen, the history 10.
    assert (numbers(found), found.step) == ([2, 4, 6, 8, 16], Step.FOLDED_IN)
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_a_stranger_who_did_something_is_folded_in(bundle: Bundle, history: LmdbHistory):
    act(history, "new", ["a+1"], position=SNAPSHOT_END, minute=3)
    found = Asking(bundle, history.glance)("new", 4)
    assert (numbers(found), found.step) == ([3, 5, 7, 9], Step.FOLDED_IN)


def test_what_was_done_before_the_snapshot_changes_nothing_but_is_left_out(bundle: Bundle, history: LmdbHistory):
    act(history, "u002", ["a+4"], position=SNAPSHOT_END - 1)
    found = Asking(bundle, history.glance)("u002", 4)
    assert (numbers(found), found.step) == ([2, 3, 5, 6], Step.PERSONAL)


def test_only_dislikes_since_the_snapshot_leave_nothing_to_fold_in(bundle: Bundle, history: LmdbHistory):
    act(history, "u002", ["a+2", "a+3"], position=SNAPSHOT_END, rating=1.0)
    found = Asking(bundle, history.glance)("u002", 3)
    assert (numbers(found), found.step) == ([4, 5, 6], Step.PERSONAL)


def test_a_bundle_that_cannot_fold_in_looks_up(home: Home, history: LmdbHistory):
    act(history, "u002", ["a+2"], position=SNAPSHOT_END)
    with open_sample(home, folds_in=False) as bundle:
        found = Asking(bundle, history.glance)("u002", 3)
    assert (numbers(found), found.step) == ([3, 4, 5], Step.PERSONAL)


def test_items_that_the_bundle_does_not_know_are_passed_over(bundle: Bundle, history: LmdbHistory):
    act(history, "u000", ["brand+new", "a+0", "newer+still"], position=SNAPSHOT_END)
    assert numbers(Asking(bundle, history.glance)("u000", 3)) == [2, 4, 6]


def test_more_watched_weighs_more(bundle: Bundle, history: LmdbHistory):
    for minute in range(90):
        act(history, "w", ["a+0"], position=SNAPSHOT_END + minute, minute=minute)
    act(history, "w", ["a+1"], position=SNAPSHOT_END + 90, minute=95)
    assert numbers(Asking(bundle, history.glance)("w", 3)) == [2, 4, 6]
    # One minute at position 95 is one minute: it must not outweigh ninety.


def test_who_has_seen_everything_gets_nothing(bundle: Bundle, history: LmdbHistory):
    act(history, "u000", [f"a+{index}" for index in range(N_ITEMS)], position=0)
    assert Asking(bundle, history.glance)("u000").items == ()


def test_a_history_that_fails_costs_only_freshness(bundle: Bundle, history: LmdbHistory):
    history.close()
    asking = Asking(bundle, history.glance)
    assert numbers(asking("u004", 3)) == [4, 5, 6]
    assert asking.without[0][0] is Part.HISTORY


def test_a_corrupt_record_costs_only_freshness(home: Home, bundle: Bundle, history: LmdbHistory):
    act(history, "u004", ["a+7"], position=SNAPSHOT_END)
    history.close()
    spoil(home.data / "history", b"u004")
    with LmdbHistory(home.data / "history", read_only=True) as spoilt:
        asking = Asking(bundle, spoilt.glance)
        assert numbers(asking("u004", 3)) == [4, 5, 6]
    assert asking.without == [(Part.HISTORY, Corrupt)]


def spoil(path: Path, key: bytes) -> None:
    with lmdb.open(str(path), max_dbs=2, map_size=1 << 24) as env:
        users = env.open_db(b"users")
        with env.begin(write=True, db=users) as transaction:
            assert transaction.replace(key, b"\xc1garbage")


def test_a_bundle_whose_users_cannot_be_read_still_folds_in(bundle: Bundle, history: LmdbHistory):
    act(history, "u004", ["a+0"], position=0)
    bundle.users.close()
    asking = Asking(bundle, history.glance)
    found = asking("u004", 3)
    assert (numbers(found), found.step) == ([2, 4, 6], Step.FOLDED_IN)
    assert asking.without[0][0] is Part.BUNDLE_USER


def test_with_users_and_history_gone_popularity_answers(bundle: Bundle, history: LmdbHistory):
    bundle.close()
    history.close()
    asking = Asking(bundle, history.glance)
    found = asking("u004", 3)
    assert (numbers(found), found.step) == ([39, 38, 37], Step.POPULAR)
    assert [part for part, _ in asking.without] == [Part.BUNDLE_USER, Part.HISTORY]


def test_a_fold_in_that_gives_no_numbers_is_passed_over(home: Home, history: LmdbHistory):
    import serving_samples

    act(history, "u004", ["a+0"], position=SNAPSHOT_END)
    arrays = serving_samples.fold_in().to_arrays()
    arrays["gram"] = np.full((2, 2), np.nan)
    with open_sample(home, fold_in=arrays) as bundle:
        asking = Asking(bundle, history.glance)
        found = asking("u004", 3)
    assert (numbers(found), found.step) == ([4, 5, 6], Step.PERSONAL)
    assert asking.without == [(Part.FOLD_IN, Corrupt)]


def test_past_the_deadline_nothing_is_scored(bundle: Bundle, history: LmdbHistory):
    act(history, "u004", ["a+5"], position=SNAPSHOT_END)
    asking = Asking(bundle, seconds=0.1)

    def slow(user: str) -> Glance | None:
        asking.clock.sleep(0.2)
        return history.glance(user)

    asking.recommender.glance = slow
    found = asking("u004", 3)
    # What the slow store said is at hand, so it is left out; folding in would cost more time.
    assert (numbers(found), found.step) == ([4, 6, 7], Step.PERSONAL)
    assert asking.without == [(Part.FOLD_IN, Reason.DEADLINE)]


def test_past_the_deadline_no_store_is_read(bundle: Bundle, history: LmdbHistory):
    act(history, "u004", ["a+4"], position=SNAPSHOT_END)
    asking = Asking(bundle, history.glance, seconds=0.0)
    found = asking("u004", 3)
    assert (numbers(found), found.step) == ([4, 5, 6], Step.PERSONAL)
    assert asking.without == [(Part.HISTORY, Reason.DEADLINE)]


def test_a_look_up_that_has_nothing_leaves_it_to_the_segment(home: Home):
    import serving_samples

    block = serving_samples.users()
    empty = np.full_like(block.top, -1)
    emptied = type(block)(block.ids, empty, block.scores, block.seen_indptr, block.seen_indices, block.segments)
    with open_sample(home, users=[emptied]) as bundle:
        found = Asking(bundle)("u004", 3)
        assert (numbers(found), found.step) == ([4, 5, 6], Step.POPULAR_IN_SEGMENT)
        assert Asking(bundle)("u003", 3).step is Step.POPULAR
