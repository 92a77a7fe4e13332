"""What is asked of a Kafka cluster about one topic: whether it is still the same, and from where to where it goes.

A topic's generation is the cluster's id and the topic's: a topic that was deleted and made again has another id, a
cluster that was set up anew another one too.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are its public names
    AdminClient,
    NewTopic,
    OffsetSpec,
)

from matinee.core.clock import Clock
from matinee.core.errors import ConfigurationError, GenerationChanged, InvalidInput, MatineeError, StoreUnavailable
from matinee.log.kafka_url import Topic

ANSWER_SECONDS = 5.0
"""How long a cluster may take to answer before it counts as away."""
_CREDENTIALS = (
    "See security.protocol, sasl.mechanism, sasl.username and ssl.ca.location in log.url (or MATINEE_KAFKA_… in "
    "the environment), and MATINEE_KAFKA_SASL_PASSWORD; mend them, and start again."
)
_MADE_SECONDS = 15.0
_STEP_SECONDS = 0.05
_Result = TypeVar("_Result")

_GONE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID}
_REFUSED = {
    KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError._INVALID_ARG, KafkaError._SSL,
}  # fmt: skip
_AWAY = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._MSG_TIMED_OUT}
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


class Cluster:
    """A topic's cluster. Any thread may ask.

    Args:
        topic: the topic.
        clock: to wait by.

    Raises:
        ConfigurationError: librdkafka refuses an option. Every call raises it where the brokers refuse our
            credentials, or we theirs, and never let us in.
    """

    def __init__(self, topic: Topic, clock: Clock) -> None:
        self.topic = topic
        self._clock = clock
        self._id = ""
        self._refusal: KafkaError | None = None
        """Why brokers let no client in, since one last answered: requests merely time out."""
        self._admin = self.client(AdminClient, {})
        self.partitions: tuple[int, ...] = ()
        """Of the topic, when it was last described."""

    def client(self, kind: Callable[..., _Result], properties: Mapping[str, Any]) -> _Result:
        """A client of this cluster, with properties that the user may override.

        Raises:
            ConfigurationError: librdkafka refuses an option.
        """
        common = {
            "bootstrap.servers": self.topic.servers,
            "client.id": "matinee",
            "reconnect.backoff.max.ms": 1_000,
            "error_cb": self._note,
            "log_level": 0,  # each lost connection would be a line; what we make of it is said once, elsewhere
        }
        try:
            return kind({**common, **properties, **self.topic.client})
        except KafkaException as error:
            raise self.explain(error) from None  # the cause would quote what must not be shown

    def generation(self) -> str:
        """The topic's generation now.

        Raises:
            GenerationChanged: there is no such topic.
            StoreUnavailable: the cluster does not answer.
        """
        described = self._asked(
            lambda: self._admin.describe_topics(TopicCollection([self.topic.name]), request_timeout=ANSWER_SECONDS)[
                self.topic.name
            ]
        )
        self.partitions = tuple(sorted(partition.id for partition in described.partitions))
        if not self._id:
            found = self._asked(lambda: self._admin.describe_cluster(request_timeout=ANSWER_SECONDS))
            self._id = str(found.cluster_id)
        return f"{self._id}.{described.topic_id}".replace("/", "_").replace("+", "-")

    def check_same(self, generation: str) -> None:
        """Raise `GenerationChanged` where the topic is gone or another one."""
        try:
            found = self.generation()
        except GenerationChanged:
            raise _changed(self.topic, generation, None) from None
        if found != generation:
            raise _changed(self.topic, generation, found)

    def make(self) -> str:
        """Make the topic, unless another process is quicker, and give its generation."""
        new = NewTopic(self.topic.name, self.topic.partitions, self.topic.replication)
        with suppress(_Exists):
            self._asked(lambda: self._admin.create_topics([new], request_timeout=ANSWER_SECONDS)[self.topic.name])
        until = self._clock.monotonic() + _MADE_SECONDS
        while True:  # brokers hear of it one after the other
            try:
                generation = self.generation()
                self.begins()  # each partition has its leader
            except (GenerationChanged, StoreUnavailable):
                if self._clock.monotonic() > until:
                    raise
                self._clock.sleep(_STEP_SECONDS)
            else:
                return generation

    def begins(self) -> dict[int, int]:
        """Of each partition, the position of its first record."""
        return self._offsets(OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def ends(self) -> dict[int, int]:
        """Of each partition, the position after its last record."""
        return self._offsets(OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def explain(self, error: KafkaException | KafkaError) -> MatineeError:
        """One of this project's errors for one of librdkafka's."""
        what = error.args[0] if isinstance(error, KafkaException) else error
        refusal = self._refused() if what.code() in _AWAY else None
        text = self.topic.without_secrets(f"event log {self.topic}: {(refusal or what).str()}")
        if refusal is not None:  # where it let us in before, it may be a broker that is just starting
            return (StoreUnavailable if self._id else ConfigurationError)(text, remedy=_CREDENTIALS)
        if what.code() in _GONE:
            return _changed(self.topic, "", None)
        if what.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return _Exists(text)
        if what.code() in _REFUSED:
            return ConfigurationError(text, remedy="Mend the options of log.url, or what this client may do there.")
        if what.code() in _TOO_LARGE:
            return InvalidInput(text, remedy="Raise the topic's max.message.bytes, or send smaller records.")
        return StoreUnavailable(
            text, remedy="Nothing is lost; it goes on when the cluster answers. See its brokers."
        )

    def _offsets(self, spec: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(self.topic.name, partition): spec for partition in self.partitions}
        try:
            told = self._admin.list_offsets(asked, request_timeout=ANSWER_SECONDS)
            return {partition.partition: int(future.result().offset) for partition, future in told.items()}
        except KafkaException as error:
            raise self.explain(error) from error

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            answer = ask().result()
        except KafkaException as error:
            raise self.explain(error) from error
        self._refused()
        self._refusal = None
        return answer

    def _refused(self) -> KafkaError | None:
        """See `_refusal`."""
        self._admin.poll(0)  # calls `_note`, where there is something to note
        return self._refusal

    def _note(self, error: KafkaError) -> None:
        if error.code() in _REFUSED:
            self._refusal = error


class _Exists(MatineeError):
    """Another process has just made the topic."""


def _changed(topic: Topic, expected: str, found: str | None) -> GenerationChanged:
    what = "the topic is gone" if found is None else f"it is now {found}"
    return GenerationChanged(
        f"event log {topic}: expected generation {expected or 'of some kind'}, but {what}: its positions mean "
        "something else",
        remedy="If the topic was deleted or made again on purpose, restart what writes to it, and run "
        "`matinee ingest --accept-new-generation`: it reads the new one from its beginning and keeps all that the "
        "lake holds. Else stop the producers and restore the topic.",
    )
