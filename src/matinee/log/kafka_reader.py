"""Reading a Kafka topic: all partitions, or those that a group gives.

A group says only who reads which partition: the position to begin at comes from `start`, whenever a partition
becomes this reader's. Rebalancing is cooperative: what stays with a reader is read on meanwhile.

Records are given out only when the topic was seen to be the same *after* they were fetched. A topic's id never
comes back, so they cannot be of another one.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from numpy.typing import NDArray

from matinee.core.clock import Clock
from matinee.core.errors import FatalError
from matinee.core.logging import get_logger
from matinee.log.base import Records, Sharing, ends_too_early
from matinee.log.kafka_cluster import Cluster

CHECK_SECONDS = 1.0
"""How often the cluster is asked for a sign of life while no records come."""
_CHUNK = 1_000
"""Messages that live at once: they take 0.4 of 1.4 µs less each as long as the caches hold them."""

_CONSUMER = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,  # for so long a killed reader keeps others from its partitions
    "topic.metadata.refresh.interval.ms": 30_000,
    "queued.max.messages.kbytes": 16_384,
    # Long runs of one partition, of a hundred thousand lines: what is done for each batch is done less often.
    "max.partition.fetch.bytes": 8_388_608,
    "fetch.max.bytes": 16_777_216,
    "fetch.error.backoff.ms": 100,
    "isolation.level": "read_committed",
}
_MISPLACED = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_log = get_logger(__name__)


class KafkaReader:
    """A `Reader` of a topic.

    Args:
        cluster: of the topic.
        generation: that the topic must have.
        start: see `EventLog.reader`. It must insist, or fail for good: a group does not ask twice.
        clock: to measure by.
        sharing: of a group; without, it reads every partition.
    """

    def __init__(
        self,
        cluster: Cluster,
        generation: str,
        start: Callable[[int], int],
        clock: Clock,
        sharing: Sharing | None,
    ) -> None:
        self._cluster = cluster
        self._generation = generation
        self._start = start
        self._clock = clock
        self._sharing = sharing
        self._next: dict[int, int] = {}
        self._eof: dict[int, int] = {}
        self._misplaced: set[int] = set()
        self._fetched: dict[int, _Fetched] = {}
        self._checked_at = clock.monotonic()
        self._joined = sharing is None
        group = "matinee" if sharing is None else sharing.group
        self._consumer: Consumer = cluster.client(Consumer, {**_CONSUMER, "group.id": group})
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def positions(self) -> Mapping[int, int] | None:
        """See `Reader.positions`."""
        if not self._joined:
            return None
        return {partition: max(at, self._eof.get(partition, 0)) for partition, at in self._next.items()}

    def poll(self, *, max_records: int, timeout: float) -> list[Records]:
        """See `Reader.poll`."""
        deadline = self._clock.monotonic() + timeout
        while True:
            if not self._fetched:
                self._fetch(max_records, min(max(deadline - self._clock.monotonic(), 0), CHECK_SECONDS))
            self._check()
            taken = self._take(max_records)
            if taken or self._clock.monotonic() >= deadline:
                return taken

    def rewind(self) -> None:
        """See `Reader.rewind`."""
        self._fetched.clear()
        self._misplaced.clear()
        for partition in tuple(self._next):
            self._place(partition, self._start(partition))

    def close(self) -> None:
        """See `Reader.close`. Safe to call twice."""
        self._sharing = None  # nothing is to be finished any more
        self._next.clear()
        self._consumer.close()

    def _begin(self) -> None:
        topic = self._cluster.topic.name
        if self._sharing is not None:
            self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
            return
        self._next = {partition: self._start(partition) for partition in self._cluster.partitions}
        self._consumer.assign([TopicPartition(topic, *place) for place in self._next.items()])

    def _fetch(self, max_records: int, timeout: float) -> None:
        left = max_records
        while left:
            messages = self._consumer.consume(min(left, _CHUNK), 0)
            if not messages and left == max_records and timeout > 0:
                messages = self._consumer.consume(1, timeout)  # it waits for the last, not for the first
                timeout = 0
            if not messages:
                return
            self._keep(messages)
            left -= len(messages)

    def _keep(self, messages: list[Message]) -> None:
        """Note what the messages say; called for every line of the stream, so that C does what it can."""
        for partition, run in groupby(messages, Message.partition):
            same = list(run)
            if any(map(Message.error, same)):
                for message in same:
                    if (error := message.error()) is not None:
                        self._told(error, message)
                same = [message for message in same if message.error() is None]
            if same:
                self._fetched.setdefault(partition or 0, _Fetched()).add(same)

    def _check(self) -> None:
        """Whether it is still the same topic, and whether each partition can be read on."""
        if self._fetched or self._misplaced or self._clock.monotonic() - self._checked_at >= CHECK_SECONDS:
            self._cluster.check_same(self._generation)
            self._checked_at = self._clock.monotonic()
        for partition in sorted(self._misplaced):
            self._mend(partition)

    def _told(self, error: KafkaError, message: Message) -> None:
        """What a partition has to say instead of a record. Lost brokers are noticed by `check_same`."""
        partition = message.partition()
        if error.code() == KafkaError._PARTITION_EOF:
            # Markers of transactions at the end take positions, and are no records.
            self._eof[partition or 0] = message.offset() or 0
        elif error.code() in _MISPLACED and partition in self._next:
            self._misplaced.add(partition)
        elif isinstance(explained := self._cluster.explain(error), FatalError) and not _is_gone(error):
            raise explained
        else:
            _log.debug("kafka", error=str(explained))

    def _mend(self, partition: int) -> None:
        """Go on where the topic begins, if its retention has outrun this reader."""
        if partition in self._fetched:
            return  # first that is given out, which the topic may no longer have
        if partition in self._next:
            at, begin = self._next[partition], self._cluster.begins()[partition]
            if at > (end := self._cluster.ends()[partition]):
                raise ends_too_early(str(self._cluster.topic), partition, end, at)
            if at < begin:
                _log.warning("beginning_is_gone", partition=partition, wanted=at, begins=begin)
            self._place(partition, max(at, begin))
        self._misplaced.discard(partition)

    def _place(self, partition: int, position: int) -> None:
        topic = self._cluster.topic.name
        self._consumer.incremental_unassign([TopicPartition(topic, partition)])
        self._next[partition] = position
        self._eof.pop(partition, None)
        self._consumer.incremental_assign([TopicPartition(topic, partition, position)])

    def _take(self, max_records: int) -> list[Records]:
        found = []
        for partition in tuple(self._fetched):
            if max_records == 0:
                break
            fetched = self._fetched.pop(partition)
            if (more := fetched.cut(max_records)) is not None:
                self._fetched[partition] = more
            max_records -= len(fetched.values)
            found.append(self._records(partition, fetched))
        return [records for records in found if records is not None]

    def _records(self, partition: int, fetched: "_Fetched") -> Records | None:
        """What was fetched, without any below the position that is due: rebalancing may bring some again."""
        if partition not in self._next:
            return None
        positions = np.array(fetched.positions, dtype=np.int64)
        taken = np.array(fetched.times_ms, dtype=np.int64) * 1_000
        values = fetched.values
        fresh = _fresh(positions, self._next[partition])
        if not fresh.all():
            positions, taken = positions[fresh], taken[fresh]
            values = [value for value, is_fresh in zip(values, fresh, strict=True) if is_fresh]
        if not values:
            return None
        self._next[partition] = int(positions[-1]) + 1
        taken[taken < 0] = self._clock.now_us()  # very old brokers keep no time
        return Records(self._generation, partition, positions, taken, values)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._joined = True
        for given in partitions:
            self._fetched.pop(given.partition, None)  # what comes before it may never have come into the lake
            self._next[given.partition] = given.offset = self._start(given.partition)
        consumer.incremental_assign(partitions)
        _log.info("partitions_taken", partitions=_numbers(partitions), all=sorted(self._next))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._sharing is not None and partitions:
            self._sharing.release(frozenset(_numbers(partitions)))
        self._let_go(consumer, partitions)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._sharing is not None and partitions:
            self._sharing.lost(frozenset(_numbers(partitions)))
        self._let_go(consumer, partitions)

    def _let_go(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in _numbers(partitions):
            self._next.pop(partition, None)
            self._eof.pop(partition, None)
            self._fetched.pop(partition, None)
        consumer.incremental_unassign(partitions)
        _log.info("partitions_given", partitions=_numbers(partitions), left=sorted(self._next))


def _fresh(positions: NDArray[np.int64], due: int) -> NDArray[np.bool_]:
    """Which positions are above all before them, and none below the one that is due."""
    before = np.maximum.accumulate(np.concatenate(([due - 1], positions[:-1])))
    return positions > before


def _numbers(partitions: Iterable[TopicPartition]) -> list[int]:
    return sorted(partition.partition for partition in partitions)


def _is_gone(error: KafkaError) -> bool:
    return error.code() in {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.UNKNOWN_TOPIC_ID,
    }


class _Fetched:
    """Records of one partition that were fetched and not given out, as columns."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.times_ms: list[int] = []
        self.values: list[bytes] = []

    def add(self, messages: list[Message]) -> None:
        self.positions += [position or 0 for position in map(Message.offset, messages)]
        self.times_ms += [time for _, time in map(Message.timestamp, messages)]
        self.values += [value or b"" for value in map(Message.value, messages)]

    def cut(self, size: int) -> "_Fetched | None":
        """Leave that many here, and give the others."""
        if len(self.values) <= size:
            return None
        more = _Fetched()
        for name in ("positions", "times_ms", "values"):
            column = getattr(self, name)
            setattr(more, name, column[size:])
            del column[size:]
        return more
