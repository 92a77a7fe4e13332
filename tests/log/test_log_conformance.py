"""What every back end of the event log promises."""

import threading
import time

import numpy as np
import pytest

from kafka_brokers import raises_at_last
from matinee.core.errors import ConfigurationError, GenerationChanged, InvalidInput
from matinee.log.base import Records
from matinee.log.open import open_log


def drain(reader, log, *, max_records=1_000) -> dict[int, list[tuple[int, bytes]]]:
    """Everything that is there, as {partition: [(position, value), …]}."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    deadline = time.monotonic() + 60
    while (batches := reader.poll(max_records=max_records, timeout=0.2)) or not at_end(reader, log):
        assert time.monotonic() < deadline, "it never came to its end"
        assert sum(len(batch) for batch in batches) <= max_records
        assert len({batch.partition for batch in batches}) == len(batches)
        for batch in batches:
            found.setdefault(batch.partition, []).extend(zip(batch.positions.tolist(), batch.values, strict=True))
    return found


def at_end(reader, log) -> bool:
    return all(reader.positions.get(partition, 0) >= end for partition, end in log.ends().items())


def read_all(log, start=lambda partition: 0) -> dict[int, list[tuple[int, bytes]]]:
    reader = log.reader(start)
    try:
        return drain(reader, log)
    finally:
        reader.close()


def values_of(found: dict[int, list[tuple[int, bytes]]], partition: int) -> list[bytes]:
    return [value for _, value in found.get(partition, [])]


def test_a_new_log_is_empty(back_end):
    with back_end.open() as log:
        ends = log.ends()
        assert set(ends) == set(back_end.partitions)
        assert read_all(log) == {}
        for partition in back_end.partitions:
            assert log.append([b"first"], partition=partition) >= ends[partition]


def test_what_is_appended_is_read_in_order_by_partition(back_end):
    with back_end.open() as log:
        expected = {p: [f"{p}:{n}".encode() for n in range(250)] for p in back_end.partitions}
        for start in range(0, 250, 50):
            for partition, values in expected.items():
                log.append(values[start : start + 50], partition=partition)
        found = read_all(log)
        for partition, values in expected.items():
            assert values_of(found, partition) == values
            positions = [position for position, _ in found[partition]]
            assert positions == sorted(set(positions))


@pytest.mark.parametrize("value", [b"", b"\x00\xff\r\n", "amélie+2001".encode(), bytes(range(256)) * 256])
def test_values_are_any_bytes(back_end, value):
    with back_end.open() as log:
        log.append([value])
        assert values_of(read_all(log), 0) == [value]


def test_append_returns_the_last_position_and_the_end_follows(exact_back_end):
    back_end = exact_back_end
    with back_end.open() as log:
        for partition in back_end.partitions:
            last = log.append([b"a", b"b", b"c"], partition=partition)
            assert read_all(log)[partition][-1] == (last, b"c")
            assert log.ends()[partition] == last + 1


def test_a_reader_begins_at_its_start_and_a_gap_is_passed_over(back_end):
    with back_end.open() as log:
        last = log.append([b"a", b"b"])
        assert values_of(read_all(log, lambda p: last if p == 0 else 0), 0) == [b"b"]
        reader = log.reader(lambda p: last + 1 if p == 0 else 0)
        assert drain(reader, log) == {}
        log.append([b"c"])
        assert values_of(drain(reader, log), 0) == [b"c"]
        reader.close()


def test_records_carry_generation_and_the_time_they_were_taken(back_end):
    with back_end.open() as log:
        before = time.time_ns() // 1_000
        log.append([b"a", b"b"])
        reader = log.reader(lambda p: 0)
        (records,) = reader.poll(max_records=10, timeout=30)
        reader.close()
        assert isinstance(records, Records)
        assert len(records) == 2
        assert (records.generation, records.partition) == (log.generation, 0)
        assert records.positions.dtype == records.appended_us.dtype == np.int64
        # A broker keeps milliseconds.
        assert all(before - 1_000 <= taken <= time.time_ns() // 1_000 for taken in records.appended_us.tolist())


def test_small_polls_miss_nothing(back_end):
    with back_end.open() as log:
        values = [str(n).encode() for n in range(10)]
        log.append(values)
        reader = log.reader(lambda p: 0)
        assert values_of(drain(reader, log, max_records=3), 0) == values
        reader.close()


def test_a_waiting_reader_gets_what_comes(back_end):
    with back_end.open() as log:
        reader = log.reader(lambda p: 0)
        assert reader.poll(max_records=10, timeout=0) == []
        producer = threading.Timer(0.1, lambda: log.append([b"late"]))
        producer.start()
        (records,) = reader.poll(max_records=10, timeout=30)
        producer.join()
        reader.close()
        assert records.values == [b"late"]


def test_a_second_open_sees_the_same_log(back_end):
    with back_end.open() as log, back_end.open(log.generation) as other:
        assert other.generation == log.generation
        last = log.append([b"one"])
        assert other.append([b"two"]) > last
        assert values_of(read_all(log), 0) == [b"one", b"two"]


def test_what_was_acknowledged_is_there_after_reopening(back_end):
    with back_end.open() as log:
        last = log.append([b"one", b"two"])
        generation = log.generation
    with back_end.open() as log:
        assert log.generation == generation
        assert read_all(log)[0][-1] == (last, b"two")


def test_threads_append_at_once_and_each_keeps_its_order(back_end):
    with back_end.open() as log:

        def produce(name: int) -> None:
            for n in range(30):
                log.append([f"{name}:{n}:{k}".encode() for k in range(5)])

        threads = [threading.Thread(target=produce, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = values_of(read_all(log), 0)
        assert len(found) == 4 * 150
        for name in range(4):
            own = [value for value in found if value.startswith(b"%d:" % name)]
            assert own == [f"{name}:{n}:{k}".encode() for n in range(30) for k in range(5)]


def test_trim_takes_what_is_below_and_no_more(back_end):
    with back_end.open() as log:
        first = log.ends()[0]
        last = log.append([str(n).encode() for n in range(10)])
        assert log.begins()[0] == first
        gone = 7 if log.trims else 0
        assert log.trim({0: last - 2}) == gone
        assert log.begins()[0] == first + gone
        assert values_of(read_all(log), 0) == [str(n).encode() for n in range(gone, 10)]
        assert log.trim({0: last - 2}) == 0
        assert log.trim({}) == 0
        assert log.append([b"next"]) == last + 1


def test_positions_go_on_after_everything_was_trimmed(exact_back_end):
    with exact_back_end.open() as log:
        last = log.append([b"a", b"b"])
        assert log.trim({0: last + 1}) == (2 if log.trims else 0)
        assert log.ends()[0] == last + 1
        reader = log.reader(lambda p: 0)
        drain(reader, log)
        assert reader.positions[0] == last + 1
        reader.close()
    with exact_back_end.open() as log:
        assert log.ends()[0] == last + 1
        assert log.append([b"c"]) > last


def test_a_reader_begins_again_where_it_is_told(back_end):
    with back_end.open() as log:
        starts = dict.fromkeys(back_end.partitions, 0)
        values = [str(n).encode() for n in range(20)]
        for partition in back_end.partitions:
            last = log.append(values, partition=partition)
        reader = log.reader(starts.get)
        assert (
            sum(map(len, reader.poll(max_records=5, timeout=30))) > 0
        )  # the rest waits in the reader, and must go
        starts[0] = last - 3
        reader.rewind()
        found = drain(reader, log)
        assert values_of(found, 0) == values[-4:]
        for partition in back_end.partitions[1:]:
            assert values_of(found, partition) == values
        starts[0] = 0
        reader.rewind()
        assert values_of(drain(reader, log), 0) == values
        reader.close()


def test_a_log_that_ends_before_its_reader_begins_is_refused(exact_back_end):
    with exact_back_end.open() as log:
        end = log.append([b"a", b"b"]) + 1
        log.reader(lambda p: end if p == 0 else 0).close()

        def read_beyond():
            reader = log.reader(lambda p: end + 1 if p == 0 else 0)
            try:
                raised = raises_at_last(lambda: reader.poll(max_records=9, timeout=0.1), GenerationChanged)
            finally:
                reader.close()
            raise raised.value

        with pytest.raises(GenerationChanged, match="older copy"):
            read_beyond()


def test_a_log_made_again_stops_its_readers(losable_back_end):
    back_end = losable_back_end
    with back_end.open() as log:
        log.append([b"old"])
        old = log.generation
        reader = log.reader(lambda p: 0)
        drain(reader, log)
        back_end.destroy()
        gone = raises_at_last(lambda: reader.poll(max_records=1, timeout=0), GenerationChanged)
        assert old in str(gone.value)
        assert gone.value.remedy
        with pytest.raises(GenerationChanged):
            log.ends()
    with back_end.open() as fresh:
        fresh.append([b"new", b"newer"])
        assert fresh.generation != old
        raises_at_last(lambda: reader.poll(max_records=1, timeout=0), GenerationChanged)
    reader.close()


def test_opening_with_another_expectation_is_refused(back_end):
    with pytest.raises(GenerationChanged):
        back_end.open("f" * 32)  # nothing is made where something was expected
    back_end.open().close()
    with pytest.raises(GenerationChanged) as changed:
        back_end.open("f" * 32)
    assert changed.value.remedy


def test_an_append_of_nothing_or_to_no_partition_is_refused(back_end):
    with back_end.open() as log:
        with pytest.raises(InvalidInput):
            log.append([])
        with pytest.raises(InvalidInput):
            log.append([b"x"], partition=max(back_end.partitions) + 1)


@pytest.mark.parametrize("url", ["", "sqlite:///", "sqlite:/x", "carrier-pigeon://roof", "/tmp/log.sqlite"])
def test_an_unknown_url_is_refused_with_the_known_forms(url):
    with pytest.raises(ConfigurationError) as refused:
        open_log(url, clock=None)
    assert "sqlite:///PATH" in refused.value.remedy
