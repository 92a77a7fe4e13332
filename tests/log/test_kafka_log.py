"""What the Kafka log promises beyond the interface: sharing, brokers that are away, retention, large records."""

import threading

import pytest
from confluent_kafka import TopicPartition

from kafka_brokers import new_topic, raises_at_last, until
from matinee.core.clock import SystemClock
from matinee.core.errors import ConfigurationError, InvalidInput, MatineeError, StoreUnavailable
from matinee.log import kafka_reader
from matinee.log.base import Sharing
from matinee.log.kafka_cluster import Cluster
from matinee.log.open import open_log


class Member:
    """A reader of a group in a thread of its own, with what it read and what it was told."""

    def __init__(self, log, group, starts):
        self.log, self.starts = log, starts
        self.read, self.told, self.error = [], [], None
        self.positions = None
        self.ending = threading.Event()
        sharing = Sharing(
            group, lambda which: self._hear("release", which), lambda which: self._hear("lost", which)
        )
        self.reader = log.reader(lambda partition: starts.get(partition, 0), sharing=sharing)
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _hear(self, what, which):
        self.told.append((what, which))

    def _work(self):
        try:
            while not self.ending.is_set():
                for records in self.reader.poll(max_records=100, timeout=0.05):
                    rows = zip(records.positions.tolist(), records.values, strict=True)
                    self.read += [(records.partition, *row) for row in rows]
                    self.starts[records.partition] = int(records.positions[-1]) + 1
                self.positions = self.reader.positions
        except MatineeError as error:
            self.error = error

    def end(self):
        self.ending.set()
        self.thread.join(timeout=60)
        self.reader.close()
        assert self.error is None


@pytest.fixture
def members():
    started = []
    yield started
    for member in started:
        member.end()


@pytest.mark.parametrize("broker", ["tansu_broker", "apache_broker"])
def test_a_reader_of_a_group_gets_every_partition_and_begins_where_it_is_told(broker, request, members):
    broker = request.getfixturevalue(broker)
    with open_log(
        broker.url(new_topic(), session_timeout_ms=6_000, heartbeat_interval_ms=500), SystemClock()
    ) as log:
        for partition in range(3):
            log.append([b"%d" % n for n in range(5)], partition=partition)
        assert log.trims is False
        members.append(Member(log, new_topic(), {0: 3, 1: 5}))
        until(lambda: len(members[0].read) == 2 + 0 + 5)
        assert sorted(members[0].read) == [(0, 3, b"3"), (0, 4, b"4"), *((2, n, b"%d" % n) for n in range(5))]


def test_readers_of_a_group_share_and_the_next_goes_on_where_the_last_ended(apache_broker, members):
    with open_log(
        apache_broker.url(new_topic(), session_timeout_ms=6_000, heartbeat_interval_ms=500), SystemClock()
    ) as log:
        group, starts, sent = new_topic(), {}, 0

        def produce():
            nonlocal sent
            for partition in range(3):
                log.append([b"%d" % sent], partition=partition)
            sent += 1

        members.append(Member(log, group, starts))
        until(lambda: len(members[0].positions or ()) == 3)
        produce()
        members.append(Member(log, group, starts))
        until(lambda: (produce(), members[1].positions)[1])
        until(lambda: len({*members[0].positions} | {*members[1].positions}) == 3)
        assert not {*members[0].positions} & {*members[1].positions}
        assert {name for name, _ in members[0].told} == {"release"}
        produce()
        members.pop(0).end()  # it leaves, and the other takes over
        until(lambda: (produce(), len(members[0].positions))[1] == 3)
        ends = log.ends()
        until(lambda: all(starts.get(partition, 0) >= end for partition, end in ends.items()))


def test_what_two_readers_read_in_turn_is_everything_once(apache_broker, members):
    with open_log(
        apache_broker.url(new_topic(), session_timeout_ms=6_000, heartbeat_interval_ms=500), SystemClock()
    ) as log:
        group, starts, read = new_topic(), {}, []
        expected = []
        for turn in range(4):
            for partition in range(3):
                last = log.append([b"%d" % turn] * 10, partition=partition)
                expected += [(partition, last - 9 + n, b"%d" % turn) for n in range(10)]
            member = Member(log, group, starts)
            members.append(member)
            until(lambda: all(starts.get(partition, 0) >= end for partition, end in log.ends().items()))
            members.remove(member)
            member.end()
            read += member.read
        assert sorted(read) == sorted(expected)


def test_a_reader_that_retention_has_outrun_goes_on_where_the_topic_begins(apache_broker):
    topic = new_topic()
    with open_log(apache_broker.url(topic), SystemClock()) as log:
        log.append([b"%d" % n for n in range(10)])
        gone = TopicPartition(topic, 0, 6)
        apache_broker.admin.delete_records([gone])[gone].result()
        until(lambda: log.begins()[0] == 6)
        reader = log.reader(lambda _: 0)
        found = []
        until(lambda: found.extend(reader.poll(max_records=10, timeout=0.5)) or len(found))
        assert found[0].positions.tolist() == [6, 7, 8, 9]
        reader.close()


def test_a_broker_that_is_killed_and_comes_back_costs_nothing(own_kafka):
    with open_log(own_kafka.url(new_topic()), SystemClock()) as log:
        reader = log.reader(lambda _: 0)
        log.append([b"before"])
        found = []
        until(lambda: found.extend(reader.poll(max_records=9, timeout=0.2)) or found)
        own_kafka.kill()
        raises_at_last(lambda: reader.poll(max_records=9, timeout=0.2), StoreUnavailable)
        with pytest.raises(StoreUnavailable):
            log.append([b"meanwhile"])
        own_kafka.start()
        until(lambda: _appends(log, b"after"))
        until(lambda: _polls(reader, found) and found[-1].values[-1] == b"after")
        values = [value for records in found for value in records.values]
        assert values[0] == b"before"
        assert values[-1] == b"after"
        assert [at for records in found for at in records.positions.tolist()] == list(range(len(values)))
        reader.close()


def _appends(log, value):
    try:
        return log.append([value]) >= 0
    except StoreUnavailable:
        return False


def _polls(reader, found):
    try:
        found.extend(reader.poll(max_records=9, timeout=0.2))
    except StoreUnavailable:
        return False
    return True


def test_what_was_fetched_before_a_failed_check_is_given_out_later_in_parts_as_large_as_is_asked(
    apache_broker, monkeypatch
):
    wanted = {
        (partition, position): b"%d.%d" % (partition, position) for partition in (0, 1) for position in range(5)
    }
    with open_log(apache_broker.url(new_topic()), SystemClock()) as log:
        for partition in (0, 1):
            log.append([wanted[partition, position] for position in range(5)], partition=partition)
        reader = log.reader(lambda _: 0)
        with monkeypatch.context() as patched:
            patched.setattr(Cluster, "check_same", _away)
            raises_at_last(lambda: reader.poll(max_records=10, timeout=0.1), StoreUnavailable)
        found, polls = {}, []
        until(lambda: _polls_in_parts(reader, found, polls) == len(wanted))
        reader.close()
    assert found == wanted
    assert max(polls) <= 3


def test_a_partition_that_goes_and_comes_back_in_the_midst_of_a_poll_is_read_from_where_it_is_told(
    apache_broker, monkeypatch
):
    monkeypatch.setattr(kafka_reader, "_CHUNK", 5)
    with open_log(apache_broker.url(new_topic()), SystemClock()) as log:
        log.append([b"%d" % n for n in range(20)])
        reader = log.reader(lambda _: 0)
        read = []
        until(lambda: read.extend(reader.poll(max_records=5, timeout=0.1)) or read)
        assert read.pop().positions.tolist() == [0, 1, 2, 3, 4]
        reader._consumer = _Rebalancing(reader._consumer, reader, after=2)
        until(lambda: read.extend(reader.poll(max_records=15, timeout=0.1)) or read)
        assert reader._consumer.after < 0
        assert read[0].positions[0] == 0
        reader.close()


class _Rebalancing:
    """A consumer whose partition 0 is taken away and given back before the call of that number."""

    def __init__(self, consumer, reader, *, after):
        self._consumer, self._reader, self.after = consumer, reader, after

    def __getattr__(self, name):
        return getattr(self._consumer, name)

    def consume(self, *arguments):
        self.after -= 1
        if self.after == 0:
            topic = self._reader._cluster.topic.name
            self._reader._revoked(self._consumer, [TopicPartition(topic, 0)])
            self._reader._assigned(self._consumer, [TopicPartition(topic, 0)])
        return self._consumer.consume(*arguments)


def _away(*_):
    raise StoreUnavailable("away", remedy="wait")


def _polls_in_parts(reader, found, polls):
    read = reader.poll(max_records=3, timeout=0.1)
    polls.append(sum(map(len, read)))
    for records in read:
        for position, value in zip(records.positions.tolist(), records.values, strict=True):
            assert (records.partition, position) not in found
            found[records.partition, position] = value
    return len(found)


def test_markers_of_transactions_are_no_records_and_are_passed_over(apache_broker):
    from confluent_kafka import Producer

    topic = new_topic()
    with open_log(apache_broker.url(topic), SystemClock()) as log:
        producer = Producer({"bootstrap.servers": apache_broker.address, "transactional.id": topic})
        producer.init_transactions(30)
        for value, finish in ((b"aborted", producer.abort_transaction), (b"kept", producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce(topic, value, partition=0)
            producer.flush(30)
            finish(30)
        reader = log.reader(lambda _: 0)
        found = []
        until(lambda: found.extend(reader.poll(max_records=9, timeout=0.2)) or reader.positions[0] >= log.ends()[0])
        assert [value for records in found for value in records.values] == [b"kept"]
        reader.close()


def test_a_record_larger_than_the_topic_takes_is_refused_and_the_next_goes_through(apache_broker):
    with open_log(apache_broker.url(new_topic()), SystemClock()) as log:
        with pytest.raises(InvalidInput, match=r"(?i)large"):
            log.append([b"x" * 2_000_000])
        assert log.append([b"y"]) >= 0


def test_nobody_there_is_told():
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        open_log("kafka://127.0.0.1:1/t", SystemClock())


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"no\.such\.option"):
        open_log("kafka://127.0.0.1:1/t?no.such.option=1", SystemClock())
