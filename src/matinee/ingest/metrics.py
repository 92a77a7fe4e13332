"""What `/metrics` says of ingest, and the alarms where it lags or sets too much aside."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from matinee.core.alarms import RaiseAlarm
from matinee.core.logging import get_logger
from matinee.core.settings import IngestSettings
from matinee.ingest.counts import Counts
from matinee.ingest.waiting import Patience

SHARE_RECORDS = 1_000
"""Records, the latest ones at least, that the share of quarantined ones is taken of."""
_STORES = {"log": "event log", "lake": "lake", "history": "history"}
"""The gauge's label for each store, and what the store is called where it is waited for."""
_LAG_REMEDY = "See docs/runbooks/lag.md. Nothing is lost; answers follow what users did by so much later."
_SURGE_REMEDY = (
    "See docs/runbooks/quarantine-surge.md. `raw` of the table `quarantine` has each of them, up to 64 KiB."
)
_log = get_logger(__name__)


class Watch(Collector):
    """Keeps the figures of one ingest, shows them, and raises each alarm once until it is over.

    Args:
        limits: above which there is an alarm.
        raise_alarm: told then.
        patience: of each thread, asked which store it waits for.
    """

    def __init__(self, limits: IngestSettings, raise_alarm: RaiseAlarm, patience: Sequence[Patience] = ()) -> None:
        self._limits = limits
        self._raise_alarm = raise_alarm
        self._patience = patience
        self._counts = Counts()
        self._latest: deque[Counts] = deque()
        self._lag: Mapping[int, int] = {}
        self._age_seconds = 0.0
        self._held: Mapping[int, Mapping[str, int]] = {}
        self._above: set[str] = set()

    def read(self, lag: Mapping[int, int], age_seconds: float) -> None:
        """Note how far reading has come.

        Args:
            lag: of each partition that is this process's, records that the log holds beyond what was read.
            age_seconds: from when the log took the record that was read last until now; 0 where all is read.
        """
        self._lag, self._age_seconds = lag, age_seconds
        evidence = {
            "age_seconds": round(age_seconds, 3),
            "limit": self._limits.lag_seconds,
            "records": sum(lag.values()),
        }
        self._judge("ingest_lag", age_seconds > self._limits.lag_seconds, evidence, _LAG_REMEDY)

    def remembered(self, held: Mapping[int, Mapping[str, int]]) -> None:
        """Note how many keys the duplicate windows hold: of each partition, by what the window's time is."""
        self._held = held

    def committed(self, counts: Counts) -> None:
        """Note what a commit has brought into the lake."""
        self._counts += counts
        self._latest.append(counts)
        while sum(some.read for some in self._latest) - self._latest[0].read >= SHARE_RECORDS:
            self._latest.popleft()
        recent = sum(self._latest, Counts())
        share = recent.quarantined / recent.read if recent.read >= SHARE_RECORDS else 0.0
        evidence = {
            "share": round(share, 6),
            "limit": self._limits.quarantine_share,
            "reasons": dict(recent.reasons),
        }
        self._judge("quarantine_surge", share > self._limits.quarantine_share, evidence, _SURGE_REMEDY)

    def collect(self) -> Iterator[Metric]:
        """The families. Each figure is replaced whole by the thread that notes it."""
        counts = self._counts
        records = CounterMetricFamily(
            "matinee_ingest_records", "Records committed to the lake, by what became of them.", labels=["outcome"]
        )
        for outcome in ("accepted", "repaired", "duplicate", "quarantined", "erased"):
            records.add_metric([outcome], getattr(counts, outcome))
        yield records
        reasons = CounterMetricFamily("matinee_ingest_quarantined", "Quarantined records.", labels=["reason"])
        for reason, count in counts.reasons.items():
            reasons.add_metric([reason], count)
        yield reasons
        lag = GaugeMetricFamily("matinee_ingest_lag_records", "Records still to be read.", labels=["partition"])
        for partition, left in self._lag.items():
            lag.add_metric([str(partition)], left)
        yield lag
        yield GaugeMetricFamily(
            "matinee_ingest_age_seconds", "Age of what was read last; 0 where all is read.", self._age_seconds
        )
        keys = GaugeMetricFamily(
            "matinee_ingest_duplicate_keys",
            "Keys remembered to tell duplicates, about 24 bytes each, by the time that a window goes by.",
            labels=["partition", "window"],
        )
        for partition, windows in self._held.items():
            for window, held in windows.items():
                keys.add_metric([str(partition), window], held)
        yield keys
        waiting = GaugeMetricFamily(
            "matinee_ingest_waiting", "1 while this store does not answer and is asked again.", labels=["store"]
        )
        waited_for = {patience.waiting_for for patience in self._patience}
        for store, name in _STORES.items():
            waiting.add_metric([store], name in waited_for)
        yield waiting

    def _judge(self, name: str, above: bool, evidence: dict[str, Any], remedy: str) -> None:
        if above and name not in self._above:
            self._above.add(name)
            self._raise_alarm(name, "warning", evidence, remedy)
        elif not above and name in self._above:
            self._above.discard(name)
            _log.warning(f"{name}_over", **evidence)
