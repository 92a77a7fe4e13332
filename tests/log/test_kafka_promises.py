"""What the Kafka log's promises rest on: acknowledged by all, written once, and of which cluster a position is."""

import json
import signal

import pytest
from confluent_kafka import Producer

from kafka_brokers import SecondKafka, apache_kafka, new_topic, until
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


def test_what_one_replica_of_two_has_is_not_acknowledged(own_kafka, tmp_path_factory):
    """The leader alone would acknowledge it at once, to a producer that does not ask for all."""
    with apache_kafka(tmp_path_factory.mktemp("second"), SecondKafka, own_kafka) as second:
        topic = new_topic()
        own_kafka.make(topic, replicas=[1, 2], min_insync_replicas=2)
        with open_log(own_kafka.url(topic, message_timeout_ms=3_000), SystemClock()) as log:
            until(lambda: appends(log))  # the second follows
            second.process.send_signal(signal.SIGSTOP)
            with pytest.raises(StoreUnavailable):
                log.append([b"x"])


def appends(log):
    try:
        return log.append([b"x"]) >= 0
    except StoreUnavailable:
        return False


def test_who_is_going_to_append_has_a_producer_that_the_brokers_know(apache_broker, monkeypatch):
    """Else the first append waits for it: half a second, and on brokers that have just started more."""
    states = []
    told = {
        "statistics.interval.ms": 50,
        "stats_cb": lambda text: states.append(json.loads(text)["eos"]["idemp_state"]),
    }
    made = []
    monkeypatch.setattr(kafka, "Producer", lambda properties: made.append(Producer(properties | told)) or made[-1])
    url = apache_broker.url(new_topic())
    open_log(url, SystemClock()).close()
    assert made == []
    with open_log(url, SystemClock(), appends=True) as log:
        until(lambda: made[0].poll(0.05) and states[-1:] == ["Assigned"])
        log.append([b"x"])
    assert len(made) == 1


@pytest.mark.parametrize("broker", ["tansu_broker", "apache_broker"])
def test_a_generation_names_the_cluster_too(broker, request):
    """A topic that a mirror made on another cluster has other positions, whatever its own id is."""
    broker = request.getfixturevalue(broker)
    cluster = broker.admin.describe_cluster().result().cluster_id
    with open_log(broker.url(new_topic()), SystemClock()) as log:
        named, _, topic = log.generation.partition(".")
    assert named == cluster.replace("/", "_").replace("+", "-")
    assert topic
