"""From candidates to the list that is shown: rules, filters, kept fold-ins, re-ranking, chance, overload."""

from pathlib import Path

import numpy as np
import pytest
import serving_samples
from hypothesis import given
from hypothesis import strategies as st
from serving_samples import N_ITEMS, SNAPSHOT_END, act, new_home, open_sample
from test_serving_answer import Asking, numbers

from matinee.bundle.attributes import ItemAttributes
from matinee.bundle.open import Bundle
from matinee.core.breaker import FAILURES, State
from matinee.core.clock import ManualClock
from matinee.core.errors import StoreUnavailable
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.serving.answer import Part, Reason, Step, Unexplained
from matinee.serving.arrange import Style
from matinee.serving.filters import Filter
from matinee.serving.fold_cache import FoldCache
from matinee.serving.load import Shed
from matinee.serving.rules import LiveRules

GENRES = ("Early", "Fourth", "Late")


def attributes(**changes) -> ItemAttributes:
    """Items below 20 are Early, from 20 on Late; each fourth is Fourth too. Item i came out in 1980 + i."""
    index = np.arange(N_ITEMS)
    unknown = ItemAttributes.unknown(N_ITEMS)
    fields = {name: getattr(unknown, name) for name in ItemAttributes.__dataclass_fields__} | {
        "genres": GENRES,
        "genre_mask": np.stack([index < 20, index % 4 == 0, index >= 20], axis=1),
        "year": (1980 + index).astype(np.int16),
        "interactions": np.where(index >= 38, 1, 100).astype(np.int32),
    }
    return ItemAttributes(**(fields | changes))


@pytest.fixture
def described(home: Home):
    with open_sample(home, attributes=attributes()) as opened:
        yield opened


def rules(folder: Path, text: str) -> LiveRules:
    (folder / "rules.toml").write_text(text)
    live = LiveRules(folder / "rules.toml", ManualClock())
    live.look()
    assert not live.why_not
    return live


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory):
    """A bundle, a history in which some did something, and a rule."""
    home = new_home(tmp_path_factory.mktemp("pipeline"))
    with (
        open_sample(home, attributes=attributes()) as bundle,
        LmdbHistory(home.data / "history", map_bytes=1 << 24) as history,
    ):
        act(history, "u006", ["a+30"], position=SNAPSHOT_END - 1)
        act(history, "u004", ["a+10", "a+12"], position=SNAPSHOT_END)
        act(history, "new", ["a+1"], position=SNAPSHOT_END + 2)
        yield bundle, history, rules(home.data, 'blocked = ["a+7", "a+8", "a+20"]')


MET = {"u004": {0, 1, 2, 3, 10, 12}, "new": {1}, "u006": {0, 1, 2, 3, 4, 5, 30}, "u000": set(), "nobody": set()}
some_items = st.lists(st.integers(0, N_ITEMS - 1), max_size=12)
filters = st.builds(
    Filter,
    genres_any=st.lists(st.sampled_from([*GENRES, "unheard of"]), max_size=2).map(tuple),
    genres_none=st.lists(st.sampled_from(GENRES), max_size=1).map(tuple),
    year_from=st.none() | st.integers(1975, 2025),
    year_to=st.none() | st.integers(1975, 2025),
)


@given(
    user=st.sampled_from(sorted(MET)),
    n=st.integers(1, 50),
    where=st.none() | filters,
    exclude=some_items,
    include_seen=st.booleans(),
    diversity=st.sampled_from([None, 0.0, 0.5, 1.0]),
    most=st.sampled_from([1.0, 0.5, 0.1]),
    shed=st.sampled_from(list(Shed)),
)
def test_never_fewer_than_n_while_there_are_so_many_and_never_one_that_may_not_be_shown(
    lasting, user, n, where, exclude, include_seen, diversity, most, shed
):
    bundle, history, blocking = lasting
    asking = Asking(bundle, history.glance, rules=blocking, style=Style(most_of_one_genre=most), shed=shed)
    found = numbers(
        asking(
            user, n, where=where, include_seen=include_seen, diversity=diversity,
            exclude=tuple(f"a+{i}" for i in exclude),
        )
    )  # fmt: skip
    met = MET[user] if shed < Shed.HISTORY else set(range(int(user[1:]))) if user[1:].isdigit() else set()
    may = set(range(N_ITEMS)) - {7, 8, 20} - set(exclude) - (set() if include_seen else met)
    if where is not None:
        mask = attributes().genre_mask
        any_of = [GENRES.index(name) for name in where.genres_any if name in GENRES]
        may = {
            i for i in may
            if (not where.genres_any or mask[i, any_of].any())
            and not any(mask[i, GENRES.index(name)] for name in where.genres_none)
            and (where.year_from is None or 1980 + i >= where.year_from)
            and (where.year_to is None or 1980 + i <= where.year_to)
        }  # fmt: skip
    assert len(found) == min(n, len(may))
    assert set(found) <= may
    assert len(set(found)) == len(found)


def test_a_narrow_filter_is_answered_from_the_whole_catalogue(described: Bundle, history: LmdbHistory):
    act(history, "u002", ["a+4", "a+6"], position=SNAPSHOT_END - 2)  # nothing new: looked up, 2 to 11
    asking = Asking(described, history.glance)
    assert asking("u002", 3).step is Step.PERSONAL
    found = asking("u002", 4, where=Filter(genres_any=("late",)))
    assert (numbers(found), found.step) == ([20, 22, 24, 26], Step.FOLDED_IN)  # even items were liked
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_without_anything_to_fold_in_a_narrow_filter_goes_on_through_popularity(described: Bundle):
    found = Asking(described)("u004", 3, where=Filter(genres_any=("Late",)))
    assert (numbers(found), found.step) == ([20, 21, 22], Step.POPULAR_IN_SEGMENT)


def of_nobody(n: int = 2) -> dict:
    """What changes in a bundle whose last items nobody has met."""
    arrays = serving_samples.fold_in().to_arrays()
    arrays["item_factors"][N_ITEMS - n :] = 0
    order = np.arange(N_ITEMS, dtype=np.int32)
    met = attributes(interactions=np.where(order >= N_ITEMS - n, 0, 100).astype(np.int32))
    return {"fold_in": arrays, "attributes": met, "popular": order, "users": []}


def test_what_nobody_has_met_is_shown_by_exploration_and_where_nothing_else_is_left(
    home: Home, history: LmdbHistory
):
    act(history, "new", ["a+1", "a+3"], position=SNAPSHOT_END)
    act(history, "first", ["a+39"], position=SNAPSHOT_END + 2)  # the first to meet it: that says nothing of taste
    with open_sample(home, **of_nobody()) as bundle:
        asking = Asking(bundle, history.glance)
        found = asking("new", N_ITEMS)
        assert numbers(found)[-2:] == [38, 39]
        assert set(numbers(found)) == set(range(N_ITEMS)) - {1, 3}
        assert asking("new", 20).step is Step.FOLDED_IN
        assert not {38, 39} & set(numbers(asking("new", N_ITEMS - 4)))
        assert (asking("first", 3).step, numbers(asking("first", 3))) == (Step.POPULAR, [0, 1, 2])
        assert numbers(asking("new", 2, where=Filter(year_from=1980 + 38))) == [38, 39]
        for style in (
            Style(diversity=0.9),
            Style(most_of_one_genre=0.1),
            Style(diversity=0.9, rerank="calibrated"),
        ):
            arranged = Asking(bundle, history.glance, style=style)
            for who in ("new", "first", "nobody"):
                assert not {38, 39} & set(numbers(arranged(who, 6)))
                assert set(numbers(arranged(who, 10, where=Filter(year_from=1980 + 30)))) == set(range(30, 40)) - (
                    {39} if who == "first" else set()
                )
        exploring = Asking(bundle, history.glance, style=Style(explore_share=0.5))
        shown = exploring("new", 4)
        assert {38, 39} <= set(numbers(shown))
        assert all(0 < propensity < 1 for propensity in shown.propensities)


def test_an_exclusion_makes_place_for_the_next(described: Bundle):
    found = Asking(described)("u004", 3, exclude=("a+4", "a+6", "unheard+of"))
    assert (numbers(found), found.step) == ([5, 7, 8], Step.PERSONAL)


def test_rules_hold_for_every_step_and_change_live(home: Home, described: Bundle, history: LmdbHistory):
    act(history, "u002", ["a+10"], position=SNAPSHOT_END)
    live = rules(home.data, 'blocked = ["a+2", "a+4", "a+39"]')
    asking = Asking(described, history.glance, rules=live)
    assert numbers(asking("u002", 3)) == [6, 8, 12]
    assert numbers(asking("u004", 3)) == [5, 6, 7]
    assert numbers(asking("nobody", 3)) == [38, 37, 36]
    (home.data / "rules.toml").write_text("blocked = []")
    live.look()
    assert numbers(asking("u002", 3)) == [2, 4, 6]
    assert numbers(asking("nobody", 3)) == [39, 38, 37]


def test_what_is_too_old_for_the_user_is_not_shown(home: Home):
    block = serving_samples.users()
    ages = np.full(20, -1, dtype=np.int16)
    ages[4], ages[7] = 12, 40
    aged = type(block)(
        block.ids, block.top, block.scores, block.seen_indptr, block.seen_indices, block.segments, ages
    )
    limit = np.where(np.arange(N_ITEMS) < 10, 18, 0).astype(np.uint8)
    with open_sample(home, users=[aged], attributes=attributes(age_limit=limit)) as bundle:
        asking = Asking(bundle, rules=rules(home.data, ""))
        assert numbers(asking("u004", 2)) == [10, 11]
        assert numbers(asking("u007", 2)) == [7, 8]
        assert numbers(asking("u001", 1)) == [10]  # of an age that is not known


def test_seen_items_may_be_asked_for(bundle: Bundle, history: LmdbHistory):
    act(history, "u004", ["a+4"], position=SNAPSHOT_END)
    asking = Asking(bundle, history.glance)
    assert numbers(asking("u004", 4)) == [6, 8, 10, 12]
    assert numbers(asking("u004", 4, include_seen=True)) == [0, 2, 4, 6]
    assert numbers(asking("nobody", 2, include_seen=True)) == [39, 38]


# Sessions.


def test_an_anonymous_session_is_folded_in(bundle: Bundle):
    found = Asking(bundle)(None, 3, session=("a+5", "unheard+of", "a+9"))
    assert (numbers(found), found.step) == ([1, 3, 7], Step.FOLDED_IN)


def test_nobody_in_particular_without_a_session_gets_what_is_popular(bundle: Bundle):
    for session in ((), ("unheard+of",)):
        found = Asking(bundle)(None, 3, session=session)
        assert (numbers(found), found.step) == ([39, 38, 37], Step.POPULAR)


def test_a_session_adds_to_what_is_known_of_a_user(bundle: Bundle, history: LmdbHistory):
    act(history, "u002", ["a+10"], position=SNAPSHOT_END)
    asking = Asking(bundle, history.glance)
    assert numbers(asking("u002", 2)) == [2, 4]
    mixed = numbers(asking("u002", 40, session=("a+5", "a+7", "a+9")))
    assert {5, 7, 9}.isdisjoint(mixed)
    assert mixed.index(3) < mixed.index(2)  # three odd items speak louder than one even one


# What is kept.


@pytest.fixture
def kept(home: Home):
    cache = FoldCache(home.run, 8)
    cache.tend()
    yield cache
    cache.close()


def test_a_fold_in_is_kept_until_the_next_event(bundle: Bundle, history: LmdbHistory, kept: FoldCache):
    act(history, "u002", ["a+10"], position=SNAPSHOT_END)
    asking = Asking(bundle, history.glance, folded=kept)
    fresh = asking("u002", 3)
    kept.tend()
    asking.shed = Shed.SCORING  # so that what is not kept cannot be had
    assert asking("u002", 3) == fresh
    assert (kept.hits, kept.misses, asking.without) == (1, 1, [])
    act(history, "u002", ["a+2"], position=SNAPSHOT_END + 1)
    assert asking("u002", 3).step is Step.PERSONAL
    assert asking.without == [(Part.FOLD_IN, Reason.OVERLOAD)]
    asking.shed = Shed.NOTHING
    assert numbers(asking("u002", 3)) == [4, 6, 8]


def test_what_is_kept_obeys_the_rules_and_questions_that_come_later(
    home: Home, described: Bundle, history: LmdbHistory, kept: FoldCache
):
    act(history, "u002", ["a+10"], position=SNAPSHOT_END)
    live = rules(home.data, 'blocked = ["a+2"]')
    asking = Asking(described, history.glance, folded=kept, rules=live)
    assert numbers(asking("u002", 3)) == [4, 6, 8]
    kept.tend()
    (home.data / "rules.toml").write_text('blocked = ["a+4"]')
    live.look()
    assert numbers(asking("u002", 3)) == [2, 6, 8]
    assert numbers(asking("u002", 2, where=Filter(genres_any=("Late",)))) == [20, 22]
    assert kept.hits == 2


def test_a_cache_that_fails_costs_only_time(bundle: Bundle, history: LmdbHistory, kept: FoldCache, monkeypatch):
    def broken(*arguments):
        raise StoreUnavailable("away")

    monkeypatch.setattr(kept, "get", broken)
    act(history, "u002", ["a+10"], position=SNAPSHOT_END)
    asking = Asking(bundle, history.glance, folded=kept)
    for _ in range(FAILURES + 1):
        assert numbers(asking("u002", 3)) == [2, 4, 6]
    failed = [(Part.FOLD_CACHE, StoreUnavailable)] * FAILURES
    assert asking.without == [*failed, (Part.FOLD_CACHE, Reason.BREAKER)]


# The list.


def genres_of(found: list[int]) -> list[int]:
    return attributes().genre_mask[found].sum(axis=0).tolist()


@pytest.mark.parametrize("rerank", ["mmr", "calibrated"])
def test_diversity_changes_the_list_and_nothing_else(described: Bundle, history: LmdbHistory, rerank):
    act(history, "u000", ["a+4", "a+21", "a+23"], position=SNAPSHOT_END)
    asking = Asking(described, history.glance, style=Style(rerank=rerank))
    plain, diverse = asking("u000", 6), asking("u000", 6, diversity=0.9)
    assert numbers(plain) == [1, 3, 5, 7, 9, 11]  # odd items weigh more
    assert set(numbers(plain)) != set(numbers(diverse))
    assert numbers(diverse)[0] == 1 or rerank == "calibrated"
    everything = dict(zip(asking("u000", 37).items, asking("u000", 37).scores, strict=True))
    assert [everything[item] for item in diverse.items] == list(diverse.scores)
    assert Asking(described, history.glance, style=Style(diversity=0.9, rerank=rerank))("u000", 6) == diverse


def test_what_is_popular_is_made_diverse_by_its_place(described: Bundle):
    asking = Asking(described)
    of_one_kind = {"exclude": ("a+39", "a+37", "a+35", "a+33")}  # odd and even items are alike among themselves
    plain, diverse = asking("nobody", 4, **of_one_kind), asking("nobody", 4, diversity=0.9, **of_one_kind)
    assert plain.step == diverse.step == Step.POPULAR
    assert numbers(plain) == [38, 36, 34, 32]
    assert numbers(diverse)[:2] == [38, 31]
    assert diverse.scores == ()


def test_no_genre_has_more_than_its_share(described: Bundle):
    plain = numbers(Asking(described)("u000", 4))
    assert genres_of(plain) == [4, 1, 0]
    mixed = Asking(described, style=Style(most_of_one_genre=0.5))
    assert genres_of(numbers(mixed("nobody", 4)))[2] == 2
    assert len(numbers(mixed("u000", 4))) == 4  # all ten are Early: better these than fewer


def test_a_share_is_left_to_chance_and_says_so(described: Bundle):
    asking = Asking(described, style=Style(explore_share=0.5))
    found = asking("u000", 4)
    assert {38, 39} < set(numbers(found))
    assert len(found.propensities) == 4
    assert all(0 < propensity < 1 for propensity in found.propensities)
    assert found.scores == ()
    assert Asking(described)("u000", 4).propensities == ()


def test_reasons_are_what_the_user_liked(bundle: Bundle, history: LmdbHistory):
    act(history, "u000", ["a+10", "a+12"], position=SNAPSHOT_END)
    act(history, "u000", ["a+5"], position=SNAPSHOT_END + 2, rating=1.0)
    asking = Asking(bundle, history.glance)
    found = asking("u000", 3, explain=True)
    assert [set(reasons) for reasons in found.reasons] == [{"a+10", "a+12"}] * 3
    assert asking("u000", 3).reasons == ()
    assert asking("nobody", 3, explain=True).reasons == ()
    assert asking(None, 1, session=("a+3",), explain=True).reasons == (("a+3",),)
    assert {asking(who, 3, explain=True).unexplained for who in ("u000", "nobody")} == {None}


def test_what_cannot_be_explained_says_why(bundle: Bundle, history: LmdbHistory, monkeypatch):
    def away(_: str) -> None:
        raise StoreUnavailable("away")

    def why(asking: Asking, who: str | None = "u000", **more: object) -> Unexplained | None:
        found = asking(who, 3, explain=True, **more)
        assert not any(found.reasons)
        assert asking(who, 3, **more).unexplained is None  # nobody asked
        return found.unexplained

    act(history, "u000", ["a+10"], position=SNAPSHOT_END)
    assert why(Asking(bundle, away)) is Unexplained.HISTORY
    assert Asking(bundle, away)(None, 1, session=("a+3",), explain=True).unexplained is None  # which needs none
    for shed in (Shed.SCORING, Shed.HISTORY):
        assert why(Asking(bundle, history.glance, shed=shed)) is Unexplained.BUSY
    monkeypatch.setattr("matinee.serving.recommender.because", lambda *_: 1 / 0)
    assert why(Asking(bundle, history.glance)) is Unexplained.ERROR


# Overload and broken stores.


def test_under_load_scoring_goes_first_and_then_the_history(bundle: Bundle, history: LmdbHistory):
    act(history, "u002", ["a+3"], position=SNAPSHOT_END)
    style = Style(diversity=0.5, explore_share=0.5)
    asking = Asking(bundle, history.glance, style=style, shed=Shed.SCORING)
    found = asking("u002", 3, explain=True)
    assert (numbers(found), found.step, found.propensities) == ([2, 4, 5], Step.PERSONAL, ())
    parts = [Part.FOLD_IN, Part.RERANK, Part.EXPLORATION, Part.EXPLANATION]
    assert asking.without == [(part, Reason.OVERLOAD) for part in parts]
    asking.without.clear()
    asking.shed = Shed.HISTORY
    assert numbers(asking("u002", 3)) == [2, 3, 4]
    assert asking.without == [(part, Reason.OVERLOAD) for part in (Part.HISTORY, Part.RERANK, Part.EXPLORATION)]


def test_a_store_that_keeps_failing_is_not_asked_any_more(bundle: Bundle, monkeypatch):
    asked = []

    def broken(user):
        asked.append(user)
        raise StoreUnavailable("away")

    monkeypatch.setattr(bundle, "user", broken)
    asking = Asking(bundle)
    for _ in range(3 * FAILURES):
        assert asking("u002", 3).step is Step.POPULAR
    assert len(asked) == FAILURES
    assert asking.without.count((Part.BUNDLE_USER, Reason.BREAKER)) == 2 * FAILURES
    assert asking.recommender.users_breaker.state is State.OPEN
    monkeypatch.undo()
    asking.clock.sleep(1)
    assert asking("u002", 3).step is Step.PERSONAL
    assert asking.recommender.users_breaker.state is State.CLOSED
