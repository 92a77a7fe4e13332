"""A record of 10 MB on its whole way through Apache Kafka, which has limits that the broker in memory has not."""

from ingest_world import World, until, watch

from kafka_brokers import apache_kafka, new_topic
from matinee.core.settings import LogSettings
from matinee.events.lines import MAX_RECORD_BYTES
from matinee.ingest.stores import stores_of

LARGE = b"x" * 10_000_000


def test_a_record_of_ten_megabytes_is_quarantined_and_the_next_goes_through(tmp_path):
    (tmp_path / "broker").mkdir()
    with apache_kafka(tmp_path / "broker") as broker:
        topic = new_topic()
        broker.make(topic, max_message_bytes=2 * len(LARGE))
        world = World(tmp_path)
        world.settings = world.settings.model_copy(update={"log": LogSettings(url=broker.url(topic))})
        world.stores = stores_of(world.settings, world.home, world.clock)
        for value in (LARGE, watch("17", "up+2009", 1).encode()):
            with world.stores.log() as log:
                log.append([value])
        with world.running() as running:
            until(lambda: world.rows("batches")["read"].sum() == 2)
    assert (running.error, world.alarms) == (None, [])
    assert world.rows("quarantine").select("position", "reason", "raw").rows() == [
        (0, "too_long", LARGE[:MAX_RECORD_BYTES])
    ]
    assert world.rows("events").select("position", "item").rows() == [(1, "up+2009")]
