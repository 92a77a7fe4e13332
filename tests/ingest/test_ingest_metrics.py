"""What `/metrics` of ingest says, and its two alarms."""

import signal
from collections import Counter
from contextlib import nullcontext

import pytest
from ingest_world import World, until, watch
from kafka_stream import Processes, shown, waited_for
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from kafka_brokers import free_port, new_topic, tansu
from matinee.core.clock import SECOND, ManualClock
from matinee.core.errors import ConfigurationError
from matinee.core.metrics import exposed
from matinee.core.settings import IngestSettings, LogSettings
from matinee.events.lines import MAX_RECORD_BYTES
from matinee.ingest import intake
from matinee.ingest.counts import Counts
from matinee.ingest.metrics import SHARE_RECORDS, Watch
from matinee.ingest.stores import stores_of
from matinee.log.open import open_log
from stopped_writer import stopped_writer

POISON = {
    b"\x00\xff\xfe\x80binary": "not_text",
    b"": "unknown_form",
    "2022-01-01T00:00:00,17,GET /data/m/amélie+2001/1.mpg".encode("utf-16"): "not_text",
    "2022-01-01T00:00:00,17,GET /data/m/amélie+2001/1.mpg".encode("latin-1"): "not_text",
    b"x" * 10_000_000: "too_long",
    b"no such form": "unknown_form",
    b"2022-01-01T00:00:00,17,GET /rate/up+2009=15": "bad_rating",
}
"""Binary, empty, in two other encodings, of 10 MB, of no known form, and of a known one that cannot be."""


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


@pytest.mark.parametrize("kind", ["sqlite", "kafka"])
def test_each_kind_of_poison_is_kept_and_counted_under_its_reason(tmp_path, kind):
    world, port = World(tmp_path), free_port()
    with tansu(tmp_path) if kind == "kafka" else nullcontext() as broker:
        update = {"ingest": IngestSettings(metrics_port=port)}
        if broker:
            update["log"] = LogSettings(url=broker.url(new_topic()))
        world.settings = world.settings.model_copy(update=update)
        world.stores = stores_of(world.settings, world.home, world.clock)
        with world.stores.log() as log:
            for poison in POISON:
                log.append([poison])
            log.append([watch("17", "up+2009", 1).encode()])
        with world.running() as running:
            until(lambda: world.rows("batches")["read"].sum() == len(POISON) + 1)
            reasons = Counter(POISON.values())
            until(lambda: counted(port) == reasons)
            assert shown(port)["matinee_ingest_records_total", "quarantined"] == len(POISON)
    assert running.error is None
    found = world.rows("quarantine").select("raw", "reason").rows()
    assert found == [(poison[:MAX_RECORD_BYTES], reason) for poison, reason in POISON.items()]
    assert world.rows("events")["item"].to_list() == ["up+2009"]  # what comes after it goes through


def test_how_much_is_left_to_read_is_seen_while_the_lake_takes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "POLL_RECORDS", 10)
    monkeypatch.setattr(intake, "ENDS_SECONDS", 0.0)
    world, port, left = World(tmp_path), free_port(), []
    lake = world.settings.lake.model_copy(update={"commit_seconds": 1_000.0})
    world.settings = world.settings.model_copy(update={"ingest": IngestSettings(metrics_port=port), "lake": lake})

    def look(*_):
        left.append(shown(port)["matinee_ingest_lag_records", "0"])
        if len(left) == 1:
            world.append(*(watch(f"{n}", "jaws+1975", 1) for n in range(20)))

    world.append(*(watch(f"{n}", "up+2009", 1) for n in range(12)))
    world.service(progress=look).run(until_idle=True)
    assert left[:4] == [2, 12, 2, 0]


def counted(port):
    """Quarantined records by reason, as ingest shows them."""
    figures = shown(port).items()
    return {key[1]: figure for key, figure in figures if key[0] == "matinee_ingest_quarantined_total"}


def test_the_alarms_of_a_running_ingest_are_raised_and_withdrawn(tmp_path):
    """It was down for an hour, in which a producer was broken; then the producer is mended."""
    world = World(tmp_path)
    limits = IngestSettings(lag_seconds=60, quarantine_share=0.1)
    world.settings = world.settings.model_copy(update={"ingest": limits})
    an_hour_ago = ManualClock(world.clock.now_us() - 3_600 * SECOND)
    good = [watch(f"{n}", "up+2009", 1).encode() for n in range(SHARE_RECORDS)]
    broken = [b"nonsense"] * (SHARE_RECORDS // 4)
    with open_log(world.home.resolve(world.settings.log.url), an_hour_ago) as log:
        log.append([*good, *broken])
    with capture_logs() as logs, world.running():
        until(lambda: len(world.alarms) == 2)
        world.append(*(watch(f"{n}", "jaws+1975", 1) for n in range(SHARE_RECORDS)))
        until(lambda: {"ingest_lag_over", "quarantine_surge_over"} <= {entry["event"] for entry in logs})
    lag, surge = world.alarms
    assert lag[0] == "ingest_lag"
    assert lag[2]["age_seconds"] >= 3_600
    assert surge[0] == "quarantine_surge"
    assert surge[2]["share"] == 0.2
    assert surge[2]["reasons"] == {"unknown_form": len(broken)}


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
