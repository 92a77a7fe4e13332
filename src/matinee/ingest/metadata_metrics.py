"""What `/metrics` says of the metadata client."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from matinee.ingest.metadata import MetadataReport


class MetadataMetrics(Collector):
    """Shows a report as it is at the moment.

    Args:
        report: of a `Describer` that works.
    """

    def __init__(self, report: MetadataReport) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        """The families; every copy is taken before it is looked through, as another thread counts on."""
        asked = CounterMetricFamily(
            "matinee_metadata_requests",
            "Requests to the metadata APIs, by what came of them.",
            labels=["api", "result"],
        )
        for kind, results in self._report.results.items():
            for result, count in results.copy().items():
                asked.add_metric([kind, result], count)
        yield asked
        due = GaugeMetricFamily("matinee_metadata_due", "Ids that wait to be asked for.", labels=["api"])
        away = GaugeMetricFamily(
            "matinee_metadata_away", "1 while an API is left alone: it failed.", labels=["api"]
        )
        for kind, count in self._report.due.copy().items():
            due.add_metric([kind], count)
        for kind, is_away in self._report.away.copy().items():
            away.add_metric([kind], is_away)
        yield due
        yield away
        yield CounterMetricFamily("matinee_metadata_rows", "Rows new or changed in the lake.", self._report.rows)
