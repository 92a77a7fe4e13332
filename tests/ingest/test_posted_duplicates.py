"""Posted events that come again: by id, for 24 hours of receipt, whatever restarts and cuts there are."""

import numpy as np
import pytest
from ingest_world import World

from matinee.core.clock import DAY, HOUR, MINUTE
from matinee.events.envelope import wrap_event, wrap_line
from matinee.events.frames import read_records
from matinee.events.lines import read_line
from matinee.events.offsets import Source
from matinee.events.types import Rating, Watch
from matinee.ingest.duplicates import DuplicateWindow
from matinee.ingest.pipeline import Pipeline, lake_tables
from matinee.ingest.window import open_posted_ids, open_window
from matinee.lake.lake import Lake

NOON = 1_700_000_000_000_000


def posted(event_id, *, key="a" * 12, time_us=NOON, received_us=NOON, item="i"):
    event = Watch(time_us=time_us, user="u", item=item, minute=1)
    return wrap_event(event, received_us=received_us, event_id=event_id, producer=f"key:{key}")


def outcomes(pipeline, values):
    frame = read_records(values, np.full(len(values), NOON, dtype=np.int64))
    batch = pipeline.take(frame, np.arange(pipeline.next, pipeline.next + len(values)))
    return batch.frame["outcome"].to_list(), batch


def new_pipeline():
    return Pipeline(Source("g", 0), 0, DuplicateWindow())


def test_an_id_is_its_keys_own_and_any_other_producers_is_everybodys():
    found, _ = outcomes(new_pipeline(), [posted("1"), posted("1", key="b" * 12), posted("1", item="other")])
    assert found == ["accepted", "accepted", "duplicate"]
    event = Rating(time_us=NOON, user="u", item="i", rating=3.0)
    by_two = [wrap_event(event, received_us=NOON, event_id="1", producer=name) for name in ("p", "q")]
    assert outcomes(new_pipeline(), by_two)[0] == ["accepted", "duplicate"]


def test_it_is_the_receipt_that_counts_and_not_the_events_time():
    years = 3 * 365 * DAY
    values = [
        posted("old", time_us=NOON - years),
        posted("now"),
        posted("old", time_us=NOON - years, received_us=NOON + 23 * HOUR),
        posted("now", received_us=NOON + 25 * HOUR),
    ]
    assert outcomes(new_pipeline(), values)[0] == ["accepted", "accepted", "duplicate", "accepted"]


def test_posts_leave_the_ten_minutes_of_other_records_alone():
    line = "2023-11-14T22:13:20,1,GET /data/m/dark+city+1998/5.mpg"
    values = [
        wrap_line(line, received_us=NOON),
        # Its time is 23 hours after the line's: a watermark of events would forget the line.
        posted("late", time_us=NOON + 23 * HOUR),
        wrap_line(line, received_us=NOON + MINUTE),
    ]
    assert outcomes(new_pipeline(), values)[0] == ["accepted", "accepted", "duplicate"]


def test_a_line_with_a_keys_producer_is_read_alike_by_both_readers():
    line = "2023-11-14T22:13:20,1,GET /data/m/dark+city+1998/5.mpg"
    values = [
        wrap_line(line, received_us=NOON, event_id=event_id, producer=producer)
        for event_id in ("", "1") for producer in ("", "p", "key:a", "key:b")
    ]  # fmt: skip
    frame = read_records(values, np.full(len(values), NOON, dtype=np.int64))
    plain = [read_line(value, appended_us=NOON).dedup_key for value in values]
    assert frame["dedup_key"].to_list() == plain
    assert len(set(plain)) == 4  # the line; the id of whoever; that of each key


def test_quarantined_posts_take_no_part():
    pipeline = new_pipeline()
    unreadable = posted("1").replace(b'"minute":1', b'"minute":-1')
    assert outcomes(pipeline, [unreadable, posted("1"), posted("1")])[0] == ["quarantined", "accepted", "duplicate"]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_it_comes_back_from_the_lake_at_any_position(world):
    lake: Lake = world.stores.lake()
    source = Source("g", 0)
    values = [
        posted(f"{n % 7}", key="ab"[n % 2] * 12, time_us=NOON - (n % 5) * 400 * DAY, received_us=NOON + n * HOUR)
        for n in range(60)
    ]
    pipeline = new_pipeline()
    found, batch = outcomes(pipeline, values)
    assert {"accepted", "duplicate"} == set(found)
    lake.commit(source, lake_tables([batch]), start=0, end=60)
    for start in (0, 1, 2, 13, 30, 59):
        again = Pipeline(source, start, open_window(lake, source, start), open_posted_ids(lake, source, start))
        assert outcomes(again, values[start:])[0] == found[start:], start
    assert len(open_posted_ids(lake, source, 60)) == len(
        {(n % 7, n % 2) for n in range(60) if found[n] == "accepted" and n >= 59 - 24}
    )
    assert len(open_posted_ids(lake, Source("g", 1), 60)) == 0
    assert len(open_window(lake, source, 60)) == 0


def test_a_repeat_after_a_restart_is_counted_and_dropped(world):
    now = world.clock.now_us()
    values = [posted(f"id{n}", time_us=now - 2 * DAY, received_us=now) for n in range(50)]
    with world.stores.log() as log:
        log.append(values)
    assert world.ingest().counts.accepted == 50
    with world.stores.log() as log:
        log.append(values)
        log.append([posted("new", received_us=now)])
    done = world.ingest()
    assert (done.counts.read, done.counts.accepted, done.counts.duplicate) == (51, 1, 50)
    assert world.rows("events").height == 51
    assert world.rows("batches")["duplicate"].sum() == 50
