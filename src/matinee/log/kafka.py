"""The event log beyond one machine: a Kafka topic.

Acknowledged means that every replica in sync has a record (`acks=all`, idempotent producer). Positions are Kafka's
offsets. What is read is decided by the position that the reader is given, never by what a group has stored. The log
is not trimmed: a topic has a retention of its own, and may have other readers.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from matinee.core.clock import Clock
from matinee.core.errors import GenerationChanged, InvalidInput, MatineeError
from matinee.log.base import Reader, Sharing
from matinee.log.kafka_cluster import Cluster
from matinee.log.kafka_url import Topic

_PRODUCER = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 1,
    "message.timeout.ms": 10_000,
    "message.max.bytes": 100_000_000,  # what a topic takes is the topic's to say
}
_FULL_SECONDS = 0.05


class KafkaLog:
    """An `EventLog` in a Kafka topic.

    Any thread may append; appends of one object take turns. Of an append that fails, Kafka may have taken a part;
    the same records sent again are then there twice, which ingest counts as duplicates.

    Args:
        topic: the topic; made when missing.
        clock: to wait by.
        generation: the generation that the caller's positions belong to, where it has some.
        appends: whether to start the producer now. The brokers give it its id after half a second or more, which is
            else the first append's to wait.

    Raises:
        ConfigurationError: an option is wrong, or this client is not allowed in.
        GenerationChanged: the topic is gone, or its generation is not the one expected.
        StoreUnavailable: the cluster does not answer.
    """

    def __init__(self, topic: Topic, clock: Clock, *, generation: str | None = None, appends: bool = False) -> None:
        self._clock = clock
        self._cluster = Cluster(topic, clock)
        self._turn = threading.Lock()
        self._producer: Producer | None = None
        if generation is not None:
            self._cluster.check_same(generation)
            self._generation = generation
        else:
            try:
                self._generation = self._cluster.generation()
            except GenerationChanged:
                self._generation = self._cluster.make()
        if appends:
            self._start_producer()

    @property
    def generation(self) -> str:
        """See `EventLog.generation`: the cluster's id and the topic's."""
        return self._generation

    @property
    def trims(self) -> bool:
        """See `EventLog.trims`: the topic's retention decides."""
        return False

    def append(self, values: Sequence[bytes], *, partition: int = 0) -> int:
        """See `EventLog.append`.

        Raises:
            InvalidInput: there are no values, the partition is not one, or a record is larger than the topic takes.
            GenerationChanged: the topic is gone.
        """
        if partition not in self._cluster.partitions or not values:
            raise InvalidInput(
                f"event log {self._cluster.topic}: append of {len(values)} records to partition {partition}",
                remedy=f"This log has {len(self._cluster.partitions)} partitions, from 0; an append takes at least "
                "one record.",
            )
        with self._turn:
            try:
                return self._append(values, partition)
            except MatineeError:
                self._producer = None  # its sequence numbers may be spent: the next append begins afresh
                raise

    def begins(self) -> dict[int, int]:
        """See `EventLog.begins`."""
        self._cluster.check_same(self._generation)
        return self._cluster.begins()

    def ends(self) -> dict[int, int]:
        """See `EventLog.ends`."""
        self._cluster.check_same(self._generation)
        return self._cluster.ends()

    def reader(self, start: Callable[[int], int], *, sharing: Sharing | None = None) -> Reader:
        """See `EventLog.reader`."""
        from matinee.log.kafka_reader import KafkaReader  # noqa: PLC0415 - who only appends does without NumPy

        self._cluster.check_same(self._generation)
        return KafkaReader(self._cluster, self._generation, start, self._clock, sharing)

    def trim(self, before: Mapping[int, int]) -> int:  # noqa: ARG002 - the interface
        """See `EventLog.trim`: deletes nothing."""
        return 0

    def scrub(self) -> None:
        """See `EventLog.scrub`: what the brokers' disks hold is theirs to delete."""

    def close(self) -> None:
        """See `EventLog.close`. Safe to call twice."""
        with self._turn:
            self._producer = None

    def __enter__(self) -> Self:
        """See `EventLog.__enter__`."""
        return self

    def __exit__(self, *exception: object) -> None:
        """See `EventLog.__exit__`."""
        self.close()

    def _append(self, values: Sequence[bytes], partition: int) -> int:
        producer = self._producer or self._start_producer()
        delivery = _Delivery()
        try:
            for value in values:
                self._produce(producer, value, partition, delivery)
        except KafkaException as error:
            raise self._cluster.explain(error) from error
        finally:
            producer.flush()  # bounded by message.timeout.ms: then every record is told of
        if delivery.error is not None:
            raise self._cluster.explain(delivery.error)
        return delivery.last

    def _start_producer(self) -> Producer:
        self._producer = self._cluster.client(Producer, _PRODUCER)
        return self._producer

    def _produce(self, producer: Producer, value: bytes, partition: int, delivery: "_Delivery") -> None:
        while True:
            try:
                producer.produce(self._cluster.topic.name, value, partition=partition, on_delivery=delivery)
            except BufferError:
                producer.poll(_FULL_SECONDS)
            else:
                return


class _Delivery:
    """Told of each record of an append once it is durable, or not."""

    def __init__(self) -> None:
        self.last = -1
        self.error: KafkaError | None = None

    def __call__(self, error: Any, message: Message) -> None:
        if error is None:
            self.last = max(self.last, message.offset() or 0)
        elif self.error is None:
            self.error = error
