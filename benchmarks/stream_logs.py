"""The event logs that the benchmarks of the stream run on: SQLite, or a topic of a broker started for them."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the brokers are started as the tests start them

LOGS = ("sqlite", "kafka", "tansu")
"""SQLite in the home; Apache Kafka, fetched by `deploy/kafka/kafka fetch`; Tansu from its wheel, in memory."""
IN_MEMORY = ("tansu",)
"""Whose brokers keep their topics in their own memory, which grows with them."""
PARTITIONS = 3
SQLITE = "sqlite:///{data}/log.sqlite"


def kind_of_log(name: str) -> str:
    """A name of the command line; `broker` is Apache Kafka where it was fetched, else Tansu, which is said."""
    if name != "broker":
        return name
    from kafka_brokers import kafka_was_fetched  # noqa: PLC0415 - SQLite does without

    kind, why = ("kafka", "was") if kafka_was_fetched() else ("tansu", "was not")
    print(f"The log is on {kind}: Apache Kafka {why} fetched (deploy/kafka/kafka fetch).", file=sys.stderr)
    return kind


@contextmanager
def a_broker(kind: str) -> Iterator[Callable[[], str]]:
    """Gives a function whose every call is the URL of a new and empty log; the broker ends with the block."""
    if kind == "sqlite":
        yield lambda: SQLITE
        return
    from kafka_brokers import apache_kafka, new_topic, tansu  # noqa: PLC0415 - SQLite does without

    start = {"kafka": apache_kafka, "tansu": tansu}[kind]
    with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as broker:
        yield lambda: str(broker.url(new_topic(), partitions=PARTITIONS))  # who opens it first makes it
