"""What every back end of the history promises."""

import threading

import pytest

from matinee.core.errors import ConfigurationError, InvalidInput, StoreUnavailable
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.open import open_history
from matinee.history.record import Entry

SOURCE, OTHER = Source("a" * 32, 0), Source("a" * 32, 1)


def actions(*rows) -> Actions:
    """Rows of (position, user, item, time, minute, rating)."""
    return Actions(*([row[column] for row in rows] for column in range(6)))


def watch(position, user, item, minute, time_us=None):
    return (position, user, item, position if time_us is None else time_us, minute, None)


def test_an_empty_store_knows_nobody(back_end):
    with back_end.open() as history:
        assert history.get("1") is None
        assert history.glance("1") is None
        assert dict(history.applied()) == {}
        assert list(history.items()) == []


def test_what_was_applied_is_got(back_end):
    with back_end.open() as history:
        rows = (
            watch(3, "1", "alien", 5),
            watch(4, "2", "brazil", 1),
            watch(5, "1", "alien", 6),
            watch(6, "1", "brazil", 0),
        )
        assert history.apply(SOURCE, actions(*rows), end=8) == 4
        assert history.apply(OTHER, actions((0, "1", "alien", 9, None, 4.5)), end=1) == 1
        one = history.get("1")
        assert one.entries == (Entry("alien", 9, 2, 4.5), Entry("brazil", 6, 1, None))
        assert dict(one.offsets) == {SOURCE: 6, OTHER: 0}
        assert dict(history.get("2").offsets) == {SOURCE: 4}
        assert history.glance("1").open() == one
        assert dict(history.applied()) == {SOURCE: 8, OTHER: 1}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_rows_may_come_in_any_order(back_end, order):
    rows = [
        watch(3, "2", "alien", 5),
        watch(4, "1", "alien", 1),
        watch(6, "2", "brazil", 6),
        watch(7, "1", "up", 0),
    ]
    with back_end.open() as history:
        history.apply(SOURCE, actions(), end=4)
        assert history.apply(SOURCE, actions(*(rows[at] for at in order)), end=9) == 3
        found = {user: ([entry.item for entry in of.entries], of.offsets[SOURCE]) for user, of in history.items()}
        assert found == {"1": (["up", "alien"], 7), "2": (["brazil"], 6)}
        with pytest.raises(InvalidInput, match="9"):
            history.apply(SOURCE, actions(watch(9, "1", "up", 1), watch(8, "1", "up", 2)), end=9)


def test_applying_again_changes_nothing(back_end):
    with back_end.open() as history:
        batch = actions(watch(0, "1", "alien", 5), watch(1, "2", "alien", 6))
        assert history.apply(SOURCE, batch, end=2) == 2
        before = dict(history.items())
        assert history.apply(SOURCE, batch, end=2) == 0
        # An overlapping batch: only what is new counts, and an older end takes nothing back.
        assert history.apply(SOURCE, actions(watch(1, "2", "brazil", 0), watch(2, "1", "alien", 7)), end=3) == 1
        assert history.apply(SOURCE, batch, end=2) == 0
        after = dict(history.items())
        assert after["2"] == before["2"]
        assert after["1"].entries[0].minutes_seen == 2
        assert dict(history.applied()) == {SOURCE: 3}


def test_the_same_position_of_another_source_is_new(back_end):
    with back_end.open() as history:
        for source in (SOURCE, OTHER, Source("b" * 32, 0)):
            assert history.apply(source, actions(watch(0, "1", "alien", 5)), end=1) == 1
        assert len(history.get("1").offsets) == 3


def test_a_batch_without_actions_moves_the_end_alone(back_end):
    with back_end.open() as history:
        assert history.apply(SOURCE, actions(), end=100) == 0
        assert dict(history.applied()) == {SOURCE: 100}
        assert history.apply(SOURCE, actions(watch(99, "1", "alien", 5)), end=100) == 0
        assert history.get("1") is None


def test_an_action_at_or_past_the_end_is_refused_whole(back_end):
    with back_end.open() as history:
        with pytest.raises(InvalidInput):
            history.apply(SOURCE, actions(watch(0, "1", "alien", 5), watch(1, "1", "alien", 6)), end=1)
        assert history.get("1") is None
        assert dict(history.applied()) == {}


def test_untimed_actions_have_time_zero(back_end):
    with back_end.open() as history:
        rows = [(n, "1", item, 0, None, 3.0) for n, item in enumerate(["b", "a", "c"])]
        history.apply(SOURCE, actions(*rows), end=3)
        assert [(entry.item, entry.last_us) for entry in history.get("1").entries] == [("a", 0), ("b", 0), ("c", 0)]


def test_items_are_everybody_in_the_order_of_the_ids(back_end):
    with back_end.open() as history:
        users = [str(n) for n in range(1_700)]
        history.apply(SOURCE, actions(*(watch(n, u, "alien", n % 90) for n, u in enumerate(users))), end=1_700)
        found = list(history.items())
        assert [user for user, _ in found] == sorted(users)
        assert all(history.get(user) == kept for user, kept in found[::100])


def test_clear_forgets_everything_and_a_rebuild_gives_the_same(back_end):
    with back_end.open() as history:
        batches = {
            SOURCE: actions(*(watch(n, str(n % 7), f"movie+{n % 5}", n % 60) for n in range(200))),
            OTHER: actions(*((n, str(n % 9), f"movie+{n % 4}", 200 - n, None, 1 + n % 5) for n in range(200))),
        }
        for source, batch in batches.items():
            history.apply(source, batch, end=200)
        before = dict(history.items())
        history.clear()
        assert history.get("1") is None
        assert dict(history.applied()) == {}
        assert list(history.items()) == []
        for source in (OTHER, SOURCE):  # from the lake the sources may come in another order
            history.apply(source, batches[source], end=200)
        assert dict(history.items()) == before


def test_reopening_keeps_everything(back_end):
    with back_end.open() as history:
        history.apply(SOURCE, actions(watch(0, "1", "alien", 5)), end=1)
        history.sync()
        history.apply(SOURCE, actions(watch(1, "1", "alien", 6)), end=2)
    with back_end.open() as history:
        assert history.get("1").entries == (Entry("alien", 1, 2, None),)
        assert dict(history.applied()) == {SOURCE: 2}


@pytest.mark.parametrize("user", ["", "a b", "x" * 1_000, "amélie", "a,b", "\x00"])
def test_what_cannot_be_an_id_is_a_stranger(back_end, user):
    with back_end.open() as history:
        assert history.get(user) is None


def test_threads_read_while_one_writes(back_end):
    with back_end.open() as history:
        history.apply(SOURCE, actions(watch(0, "1", "alien", 0)), end=1)
        done = threading.Event()
        wrong: list[object] = []

        def read() -> None:
            last = 0
            while not done.is_set():
                kept = history.get("1")
                if kept.entries[0].minutes_seen != kept.offsets[SOURCE] + 1 or kept.offsets[SOURCE] < last:
                    wrong.append(kept)
                last = kept.offsets[SOURCE]

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for n in range(1, 300):
            history.apply(SOURCE, actions(watch(n, "1", "alien", n)), end=n + 1)
        done.set()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_store_that_is_not_there_is_unavailable_to_readers(back_end):
    with pytest.raises(StoreUnavailable) as missing:
        back_end.open(read_only=True)
    assert missing.value.remedy
    back_end.open().close()
    with back_end.open(read_only=True) as history:
        assert history.get("1") is None


def test_a_reader_cannot_write(back_end):
    back_end.open().close()
    with back_end.open(read_only=True) as history:
        for write in (lambda: history.apply(SOURCE, actions(), end=1), history.clear):
            with pytest.raises(ConfigurationError, match="read-only"):
                write()


@pytest.mark.parametrize("url", ["", "lmdb:///", "lmdb:/x", "carrier-pigeon://roof", "/tmp/history"])
def test_an_unknown_url_is_refused_with_the_known_forms(url):
    with pytest.raises(ConfigurationError) as refused:
        open_history(url)
    assert "lmdb:///PATH" in refused.value.remedy


def test_an_erased_user_is_gone_and_everybody_else_stays(back_end):
    with back_end.open() as history:
        rows = [watch(n, f"user-{n % 300}", f"item-{n % 7}", n % 60) for n in range(1_000)]
        history.apply(SOURCE, actions(*rows), end=1_000)
        before, applied = dict(history.items()), dict(history.applied())
        assert history.erase({"user-17", "user-290", "a stranger"}) == 2
        assert dict(history.items()) == {
            user: of for user, of in before.items() if user not in {"user-17", "user-290"}
        }
        assert dict(history.applied()) == applied
        assert history.get("user-17") is None
        assert history.erase({"user-17"}) == 0
        assert history.apply(SOURCE, actions(watch(1_000, "user-17", "item-1", 1)), end=1_001) == 1
        assert history.get("user-17").entries[0].item == "item-1"
    with back_end.open() as history:
        assert len(dict(history.items())) == 299
