"""The URL of a Kafka topic: `kafka://HOST:PORT[,HOST:PORT…]/TOPIC[?option=value…]`.

Options are librdkafka's own (`security.protocol=SASL_SSL`, `ssl.ca.location=…`, `session.timeout.ms=…`) and are
passed through, but for those that the log's promises rest on; and two of ours for a topic that has to be made,
`partitions` and `replication`. Each may come from the environment instead: `MATINEE_KAFKA_SASL_USERNAME` is
`sasl.username`. Secrets come from there alone: a URL is shown in settings, alarms and lists of processes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from matinee.core.errors import ConfigurationError

SCHEME = "kafka://"
FORM = "kafka://HOST:PORT[,HOST:PORT…]/TOPIC[?option=value…]"
ENVIRONMENT = "MATINEE_KAFKA_"

_SERVER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SECRET = re.compile(r"password|secret|pem$|jwk|assertion|oauthbearer\.config")
_MILLISECONDS = re.compile(r"[1-9][0-9]*")
_OURS = frozenset({"partitions", "replication"})
_FIXED = frozenset(
    {
        "bootstrap.servers", "metadata.broker.list", "acks", "request.required.acks", "enable.idempotence",
        "enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store", "auto.offset.reset",
        "partition.assignment.strategy", "group.protocol", "enable.partition.eof", "transactional.id",
        "allow.auto.create.topics", "group.id", "group.instance.id", "isolation.level",
    }
)  # fmt: skip
"""Two lakes that named one group would each get a part of the topic, and two processes that named one member would
keep each other out."""
_BOUNDED = ("delivery.timeout.ms", "message.timeout.ms")
"""For librdkafka 0 is without end; whoever posts is to be told that it did not go."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic, and how its cluster is reached.

    Attributes:
        servers: `host:port[,host:port…]` of brokers to begin with.
        name: the topic.
        client: properties for librdkafka, secrets among them. Never shown.
        partitions: of the topic where it has to be made; the cluster's default if not given.
        replication: copies of each partition, likewise.
    """

    servers: str
    name: str
    client: Mapping[str, str]
    partitions: int = -1
    replication: int = -1

    def __str__(self) -> str:
        return f"{SCHEME}{self.servers}/{self.name}"

    def __repr__(self) -> str:
        return f"Topic({str(self)!r})"

    def without_secrets(self, text: str) -> str:
        """The text with the values of secret properties masked: librdkafka's messages may quote them."""
        for name, value in self.client.items():
            if _SECRET.search(name) and value:
                text = text.replace(value, "***")
        return text


def parse_topic(url: str, environment: Mapping[str, str]) -> Topic:
    """Read a topic's URL, and the options that the environment adds. An option that both give is the URL's.

    Raises:
        ConfigurationError: the URL is not of the form, sets what is fixed, or holds a secret; the message names no
            value.
    """
    parts = urlsplit(url)
    name = parts.path.removeprefix("/")
    servers = parts.netloc.split(",")
    if "@" in parts.netloc:
        raise _refused("user and password do not belong into it", _secret_remedy("sasl.password"))
    if (
        parts.fragment
        or not _TOPIC.fullmatch(name)
        or name in {".", ".."}
        or not all(map(_SERVER.fullmatch, servers))
    ):
        raise _refused(f"it is not of the form {FORM}", "Topics have letters, digits, dots, _ and -, at most 249.")
    given = _given(parts.query)
    added = {_property(key): value for key, value in environment.items() if key.startswith(ENVIRONMENT)}
    options = {**added, **given}
    for option in sorted(options.keys() & _FIXED):
        raise _refused(f"{option} is not to be set", "matinee sets it: what the log promises rests on it.")
    for option in _BOUNDED:
        if option in options and not _MILLISECONDS.fullmatch(options[option]):
            raise _refused(f"{option} is not a number above 0", "Give it a bound in milliseconds, or leave it out.")
    client = {key: value for key, value in options.items() if key not in _OURS}
    return Topic(parts.netloc, name, client, *(_count(options, key) for key in ("partitions", "replication")))


def _given(query: str) -> dict[str, str]:
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError:
        raise _refused("its options are not of the form option=value&option=value", "Mend log.url.") from None
    for option in given:
        if _SECRET.search(option):
            raise _refused(f"{option} does not belong into it", _secret_remedy(option))
    return given


def _property(variable: str) -> str:
    return variable.removeprefix(ENVIRONMENT).lower().replace("_", ".")


def _count(options: Mapping[str, str], name: str) -> int:
    text = options.get(name, "-1")
    if text != "-1" and not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise _refused(f"{name} is not a whole number above 0", f"Say {name}=8, or leave it to the cluster.")
    return int(text)


def _secret_remedy(option: str) -> str:
    return (
        "A URL is shown in settings and lists of processes. In the environment, set "
        f"{ENVIRONMENT}{option.upper().replace('.', '_')} instead."
    )


def _refused(why: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"the URL of the Kafka topic: {why}", remedy=remedy)
