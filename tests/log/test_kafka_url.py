"""What a topic's URL may say, what it may not, and that no secret is ever shown."""

from urllib.parse import quote

import pytest

from matinee.core.errors import ConfigurationError
from matinee.log.kafka_url import parse_topic

SECRET = "hush-hush-9"


def test_options_are_passed_through_and_the_environment_adds_to_them():
    url = "kafka://a:9092,b:9093/movielog?security.protocol=SASL_SSL&session.timeout.ms=6000&partitions=8"
    environment = {
        "MATINEE_KAFKA_SASL_PASSWORD": SECRET,
        "MATINEE_KAFKA_SESSION_TIMEOUT_MS": "9",
        "MATINEE_HOME": "x",
    }
    topic = parse_topic(url, environment)
    assert (topic.servers, topic.name, topic.partitions, topic.replication) == ("a:9092,b:9093", "movielog", 8, -1)
    assert topic.client == {
        "security.protocol": "SASL_SSL", "session.timeout.ms": "6000", "sasl.password": SECRET,
    }  # fmt: skip


def test_a_topic_shows_no_secret():
    topic = parse_topic("kafka://a:9092/t", {"MATINEE_KAFKA_SASL_PASSWORD": SECRET})
    assert SECRET not in f"{topic} {topic!r}"
    assert topic.without_secrets(f"bad password {SECRET}!") == "bad password ***!"


@pytest.mark.parametrize(
    "url",
    [
        f"kafka://ann:{SECRET}@a:9092/t",
        f"kafka://a:9092/t?sasl.password={SECRET}",
        f"kafka://a:9092/t?ssl.key.password={SECRET}",
        f"kafka://a:9092/t?ssl.key.pem={SECRET}",
        f"kafka://a:9092/t?sasl.oauthbearer.client.secret={SECRET}",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigurationError) as refused:
        parse_topic(url, {})
    assert SECRET not in f"{refused.value} {refused.value.remedy}"
    assert "MATINEE_KAFKA_" in refused.value.remedy


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "a:9092",
        "a:9092/",
        "a/t",
        "a:9092,/t",
        "a:9092/t/u",
        "a:9092/t#x",
        "a:9092/t t",
        "a:9092/..",
        "a:9092/t?x",
    ],
)
def test_a_url_of_another_form_is_refused(rest):
    with pytest.raises(ConfigurationError):
        parse_topic(f"kafka://{rest}", {})


@pytest.mark.parametrize(
    "option",
    [
        "acks",
        "enable.idempotence",
        "auto.offset.reset",
        "enable.auto.commit",
        "group.id",
        "group.instance.id",
        "isolation.level",
        "delivery.timeout.ms",
        "message.timeout.ms",
    ],
)
@pytest.mark.parametrize("from_environment", [False, True])
def test_what_promises_rest_on_cannot_be_set(option, from_environment):
    name = f"MATINEE_KAFKA_{option.upper().replace('.', '_')}"
    url, environment = ("", {name: "0"}) if from_environment else (f"?{option}=0", {})
    with pytest.raises(ConfigurationError, match=option):
        parse_topic(f"kafka://a:9092/t{url}", environment)


@pytest.mark.parametrize("time", ["0", "00", "+0", "0x0", "-1", ""])
def test_a_delivery_has_a_bound(time):
    with pytest.raises(ConfigurationError, match=r"message\.timeout\.ms"):
        parse_topic(f"kafka://a:9092/t?message.timeout.ms={quote(time)}", {})
    assert parse_topic("kafka://a:9092/t?message.timeout.ms=5000", {}).client == {"message.timeout.ms": "5000"}


@pytest.mark.parametrize("count", ["0", "-2", "many", "1.5", ""])
def test_a_number_of_partitions_is_a_number(count):
    with pytest.raises(ConfigurationError, match="partitions"):
        parse_topic(f"kafka://a:9092/t?partitions={count}", {})
