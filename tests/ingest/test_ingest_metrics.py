"""What `/metrics` of ingest says, and its two alarms."""

import signal

import pytest
from ingest_world import World, until, watch
from kafka_stream import Processes, shown, waited_for
from prometheus_client import CollectorRegistry

from kafka_brokers import free_port, new_topic, tansu
from matinee.core.errors import ConfigurationError
from matinee.core.metrics import exposed
from matinee.core.settings import IngestSettings
from matinee.ingest.counts import Counts
from matinee.ingest.metrics import SHARE_RECORDS, Watch
from stopped_writer import stopped_writer


@pytest.fixture
def alarms():
    return []


@pytest.fixture
def figures(alarms):
    limits = IngestSettings(lag_seconds=10, quarantine_share=0.1)
    return Watch(limits, lambda *alarm: alarms.append(alarm))


def of(read, quarantined):
    return Counts(read, read - quarantined, 0, 0, quarantined, {"not_text": quarantined} if quarantined else {})


def values(figures):
    registry = CollectorRegistry()
    registry.register(figures)
    return registry.get_sample_value


def test_each_record_is_counted_by_what_became_of_it(figures):
    figures.committed(Counts(10, 4, 3, 2, 1, {"bad_rating": 1}))
    figures.committed(of(5, 1))
    figures.read({0: 7, 2: 0}, 1.5)
    figures.remembered({2: {"event": 5, "receipt": 3}})
    value = values(figures)
    outcomes = ("accepted", "repaired", "duplicate", "quarantined")
    assert [value("matinee_ingest_records_total", {"outcome": name}) for name in outcomes] == [8, 3, 2, 2]
    assert value("matinee_ingest_quarantined_total", {"reason": "bad_rating"}) == 1
    assert value("matinee_ingest_quarantined_total", {"reason": "not_text"}) == 1
    assert value("matinee_ingest_lag_records", {"partition": "0"}) == 7
    assert value("matinee_ingest_age_seconds") == 1.5
    held = [
        value("matinee_ingest_duplicate_keys", {"partition": "2", "window": name}) for name in ("event", "receipt")
    ]
    assert held == [5, 3]


def test_a_lag_is_told_of_once_until_it_is_over(figures, alarms):
    for age in (9.0, 11.0, 60.0, 10.0, 12.0):
        figures.read({0: 100}, age)
    assert [(name, evidence["age_seconds"]) for name, _, evidence, _ in alarms] == [
        ("ingest_lag", 11.0),
        ("ingest_lag", 12.0),
    ]


def test_a_surge_of_quarantined_records_is_told_of_once_until_it_is_over(figures, alarms):
    figures.committed(of(SHARE_RECORDS - 1, SHARE_RECORDS - 1))
    assert alarms == []  # too few to tell
    figures.committed(of(1, 1))
    figures.committed(of(10, 10))
    assert [(name, evidence["share"]) for name, _, evidence, _ in alarms] == [("quarantine_surge", 1.0)]
    figures.committed(of(SHARE_RECORDS, SHARE_RECORDS // 10))  # older ones count no more: at the limit, not above
    figures.committed(of(SHARE_RECORDS, SHARE_RECORDS // 10 + 1))
    assert [evidence["share"] for _, _, evidence, _ in alarms] == [1.0, 0.101]


def test_ingest_shows_itself_on_its_port(tmp_path):
    world, port = World(tmp_path), free_port()
    world.settings = world.settings.model_copy(update={"ingest": IngestSettings(metrics_port=port)})
    world.append(watch("17", "up+2009", 1), "nonsense")
    with world.running():
        until(lambda: world.rows("batches").height)
        until(lambda: shown(port).get(("matinee_ingest_quarantined_total", "unknown_form")) == 1)
        assert shown(port)["matinee_ingest_records_total", "accepted"] == 1
        assert shown(port)["matinee_ingest_lag_records", "0"] == 0
        assert shown(port)["matinee_ingest_duplicate_keys", "0", "event"] == 1
        assert shown(port)["matinee_ingest_duplicate_keys", "0", "receipt"] == 0
        assert waited_for(port) == set()
        watching = Watch(IngestSettings(), pytest.fail)
        taken = exposed(watching, port, setting="ingest.metrics_port")
        with pytest.raises(ConfigurationError, match=r"ingest\.metrics_port"), taken:
            pass
    with pytest.raises(OSError, match="refused"):
        shown(port)


def test_a_broker_that_is_gone_is_seen_to_be_waited_for(tmp_path):
    with tansu(tmp_path) as broker:
        processes = Processes(tmp_path, broker.url(new_topic()))
        port = processes.with_metrics()
        processes.start()
        processes.wait(lambda: waited_for(port) == set())
    with processes:
        processes.wait(lambda: waited_for(port) == {"log"})
        assert "matinee_ingest_age_seconds" in {name for name, *_ in shown(port)}  # what it knew is shown on


def test_a_history_in_which_another_process_stands_still_is_seen_and_told_of(tmp_path):
    with tansu(tmp_path) as broker, Processes(tmp_path, broker.url(new_topic())) as processes:
        port = processes.with_metrics()
        with stopped_writer(processes.home.data / "history") as other:
            processes.start()
            processes.wait(lambda: waited_for(port) == {"history"})  # before any store is open, too
            processes.wait(processes.alarms)
            (alarm,) = processes.alarms()
            assert (alarm.name, alarm.evidence["waiting_for"]) == ("ingest_waiting", "history")
            assert f"kill -CONT {other.pid}" in alarm.remedy
            other.send(signal.SIGCONT)
            processes.wait(lambda: waited_for(port) == set())
