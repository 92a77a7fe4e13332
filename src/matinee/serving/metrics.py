"""What `/metrics` shows: plain counters, cheap to raise with every answer, read by Prometheus when it asks.

`prometheus_client`'s own counters take a lock and about a microsecond each; the hot path counts in plain integers
of the event loop's thread, and this module turns them into metric families on demand.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from matinee.core.logging import get_logger

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.6)
"""Upper bounds in seconds; the last is what the caller waits at most."""

_log = get_logger(__name__)
Family = Callable[[], Metric]


class Histogram:
    """Counts of durations by bucket. Belongs to one thread; others may read."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, durations at or below it), ascending, ending with `+Inf`."""
        total, rows = 0, []
        for bound, count in zip([*map(str, BUCKETS), "+Inf"], list(self._counts), strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows

    @property
    def sum(self) -> float:
        """All durations together, in seconds."""
        return self._sum


class HotCounters:
    """What is counted with every request, in the event loop's thread."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str]] = Counter()
        """By step and model version."""
        self.without: Counter[tuple[str, str]] = Counter()
        """What answers did without, by part and reason."""
        self.responses: Counter[int] = Counter()
        """By HTTP status, of all routes."""
        self.latency = Histogram()
        """From arrival until the answer was chosen."""


class Exposition:
    """The page for Prometheus. A family that cannot be read is left out and counted; the page itself never fails.

    Args:
        families: each gives one metric family.
    """

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = tuple(families)
        self._failures = 0
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(self._collect))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The page, in Prometheus' text format."""
        try:
            return generate_latest(self._registry)
        except Exception:  # noqa: BLE001 - the page never fails
            _log.exception("metrics_failed")
            return b"# the metrics could not be read; the program's log says why\n"

    def _collect(self) -> Iterator[Metric]:
        for family in self._families:
            try:
                yield family()
            except Exception:  # noqa: BLE001 - same
                self._failures += 1
                _log.exception("metric_failed")
        yield counter("matinee_metric_failures", "Metric families that could not be read.", self._failures)


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def counter(name: str, help_text: str, value: float) -> Metric:
    """A counter without labels."""
    return CounterMetricFamily(name, help_text, value=value)


def gauge(name: str, help_text: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, help_text, value=value)


def labelled_counter(
    name: str, help_text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    """A counter with labels: pairs of the labels' values and the count."""
    family = CounterMetricFamily(name, help_text, labels=labels)
    for row, value in values:
        family.add_metric(row, value)
    return family


def labelled_gauge(
    name: str, help_text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    """A gauge with labels, likewise."""
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for row, value in values:
        family.add_metric(row, value)
    return family


def histogram(name: str, help_text: str, of: Histogram) -> Metric:
    """A histogram without labels."""
    family = HistogramMetricFamily(name, help_text)
    family.add_metric([], of.cumulative(), of.sum)
    return family
