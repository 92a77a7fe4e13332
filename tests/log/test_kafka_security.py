"""TLS and passwords, against an Apache Kafka that wants both: who is let in, and what is said to who is not."""

import shutil
from contextlib import closing

import pytest

from kafka_brokers import SecuredKafka, apache_kafka, new_topic
from matinee.core.clock import SystemClock
from matinee.core.errors import ConfigurationError
from matinee.log.open import open_log

PASSWORD = "MATINEE_KAFKA_SASL_PASSWORD"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    with apache_kafka(tmp_path_factory.mktemp("kafka"), SecuredKafka) as running:
        yield running


def test_over_tls_with_a_password_what_was_appended_is_read(broker, monkeypatch):
    monkeypatch.setenv(PASSWORD, "right")
    with open_log(broker.secured_url(new_topic()), SystemClock()) as log:
        log.append([b"one", b"two"], partition=1)
        found = []
        with closing(log.reader(lambda _: 0)) as reader:
            while len(found) < 2:
                found += [value for records in reader.poll(max_records=10, timeout=1.0) for value in records.values]
    assert found == [b"one", b"two"]


@pytest.mark.parametrize(
    ("password", "options", "says"),
    [
        ("not-the-right-one", {}, "Invalid username or password"),
        ("right", {"sasl_username": "bob"}, "Invalid username or password"),
        ("right", {"sasl_mechanism": "SCRAM-SHA-256"}, "Unsupported SASL mechanism"),
        ("right", {"ssl_ca_location": None}, "certificate verify failed"),
    ],
    ids=["password", "user", "mechanism", "authority"],
)
def test_who_is_refused_does_not_wait_and_is_told_what_to_mend(broker, monkeypatch, password, options, says):
    monkeypatch.setenv(PASSWORD, password)
    with pytest.raises(ConfigurationError, match=says) as raised:
        open_log(broker.secured_url(new_topic(), **options), SystemClock())
    for option in ("sasl.username", "ssl.ca.location", PASSWORD):
        assert option in raised.value.remedy
    assert "not-the-right-one" not in f"{raised.value} {raised.value.remedy}"
