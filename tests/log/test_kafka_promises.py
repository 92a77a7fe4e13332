"""What the Kafka log's promises rest on: acknowledged by all, written once, and of which cluster a position is."""

import pytest
from confluent_kafka import Producer

from kafka_brokers import new_topic
from matinee.core.clock import SystemClock
from matinee.core.errors import StoreUnavailable
from matinee.log import kafka
from matinee.log.open import open_log

PRODUCER_ID = slice(43, 51)
"""Where a batch of records on a broker's disk names its producer; -1 is one that is not idempotent."""


def test_producers_are_told_to_be_idempotent_and_acknowledged_by_all(tansu_broker, monkeypatch):
    """The client's own defaults are not relied upon."""
    given = {}
    monkeypatch.setattr(kafka, "Producer", lambda properties: given.update(properties) or Producer(properties))
    with open_log(tansu_broker.url(new_topic()), SystemClock()) as log:
        log.append([b"x"])
    assert (given["enable.idempotence"], given["acks"]) == (True, "all")


def test_a_broker_knows_the_producer_by_an_id(apache_broker):
    topic = new_topic()
    with open_log(apache_broker.url(topic), SystemClock()) as log:
        log.append([b"x"])
    (segment,) = apache_broker.folder.rglob(f"{topic}-0/*.log")
    assert int.from_bytes(segment.read_bytes()[PRODUCER_ID], signed=True) >= 0


def test_what_too_few_replicas_have_is_not_acknowledged(apache_broker):
    topic = new_topic()
    apache_broker.make(topic, min_insync_replicas=2)  # it has one
    with open_log(apache_broker.url(topic, message_timeout_ms=1_000), SystemClock()) as log:
        with pytest.raises(StoreUnavailable):
            log.append([b"x"])
        assert log.ends()[0] == 0


@pytest.mark.parametrize("broker", ["tansu_broker", "apache_broker"])
def test_a_generation_names_the_cluster_too(broker, request):
    """A topic that a mirror made on another cluster has other positions, whatever its own id is."""
    broker = request.getfixturevalue(broker)
    cluster = broker.admin.describe_cluster().result().cluster_id
    with open_log(broker.url(new_topic()), SystemClock()) as log:
        named, _, topic = log.generation.partition(".")
    assert named == cluster.replace("/", "_").replace("+", "-")
    assert topic
