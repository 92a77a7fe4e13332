"""The back ends that the conformance suite runs against. A further one is a further entry of `BACK_ENDS`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kafka_brokers import apache_kafka, named_broker, new_topic, tansu
from matinee.core.clock import SystemClock
from matinee.log.base import EventLog
from matinee.log.open import open_log


@dataclass(frozen=True)
class BackEnd:
    """An empty log that can be opened as often as a test wants.

    Args:
        url: what `open_log` opens.
        partitions: those that the log has.
        destroy: loses the log, as a deleted file or topic is lost.
        inexact: why it does not tell where a partition ends, where it does not.
        fragile: why a log under a reader cannot be lost, where it cannot.
    """

    url: str
    partitions: tuple[int, ...]
    destroy: Callable[[], None]
    inexact: str = ""
    fragile: str = ""

    def open(self, generation: str | None = None) -> EventLog:
        return open_log(self.url, SystemClock(), generation=generation)


def _sqlite(request) -> BackEnd:
    folder = request.getfixturevalue("tmp_path")

    def destroy() -> None:
        for file in folder.glob("log.sqlite*"):
            file.unlink()

    return BackEnd(f"sqlite:///{folder}/log.sqlite", (0,), destroy)


def _kafka(broker) -> BackEnd:
    topic = new_topic()
    return BackEnd(broker.url(topic), (0, 1, 2), lambda: broker.delete(topic), broker.inexact, broker.fragile)


BACK_ENDS: dict[str, Callable[[pytest.FixtureRequest], BackEnd]] = {
    "sqlite": _sqlite,
    "tansu": lambda request: _kafka(request.getfixturevalue("tansu_broker")),
    "apache-kafka": lambda request: _kafka(request.getfixturevalue("apache_broker")),
    "named-kafka": lambda _: _kafka(named_broker()),
}


@pytest.fixture(scope="session")
def tansu_broker(tmp_path_factory):
    with tansu(tmp_path_factory.mktemp("tansu")) as broker:
        yield broker


@pytest.fixture(scope="session")
def apache_broker(tmp_path_factory):
    with apache_kafka(Path(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker


@pytest.fixture
def own_kafka(tmp_path):
    """A broker of one test's own, to be killed."""
    with apache_kafka(tmp_path) as broker:
        yield broker


@pytest.fixture(params=sorted(BACK_ENDS))
def back_end(request) -> BackEnd:
    return BACK_ENDS[request.param](request)


@pytest.fixture
def exact_back_end(back_end) -> BackEnd:
    """One that tells where a partition ends."""
    if back_end.inexact:
        pytest.skip(back_end.inexact)
    return back_end


@pytest.fixture
def losable_back_end(back_end) -> BackEnd:
    """One that can be lost under a reader."""
    if back_end.fragile:
        pytest.skip(back_end.fragile)
    return back_end
