"""The metric families of the service, by name."""

from prometheus_client.metrics_core import Metric

from matinee.serving.live_history import LiveHistory
from matinee.serving.metrics import (
    Family,
    HotCounters,
    counter,
    gauge,
    histogram,
    labelled_counter,
    labelled_gauge,
)
from matinee.serving.release import ReleaseHolder
from matinee.serving.telemetry import Telemetry


def families(hot: HotCounters, held: ReleaseHolder, live: LiveHistory, telemetry: Telemetry) -> list[Family]:
    """What each metric is called, and where its value comes from."""
    counts = telemetry.counts
    return [
        lambda: labelled_counter(
            "matinee_answers", "Answers, by the step that gave them.", ("step", "model_version"),
            [((str(step), version), n) for (step, version), n in list(hot.answers.items())],
        ),
        lambda: labelled_counter(
            "matinee_answers_without", "What answers did without, and why.", ("part", "reason"),
            [((str(part), reason), n) for (part, reason), n in list(hot.without.items())],
        ),
        lambda: labelled_counter(
            "matinee_responses", "HTTP responses, by status.", ("status",),
            [((str(status),), n) for status, n in list(hot.responses.items())],
        ),
        lambda: histogram("matinee_answer_seconds", "From arrival until an answer was chosen.", hot.latency),
        lambda: counter("matinee_telemetry_offered", "Records offered.", counts().offered),
        lambda: counter("matinee_telemetry_written", "Records in the log.", counts().written),
        lambda: counter("matinee_telemetry_dropped", "Records lost.", counts().dropped),
        lambda: gauge("matinee_telemetry_queued", "Records waiting.", counts().waiting),
        lambda: _bundle_info(held),
        lambda: counter("matinee_release_swaps", "Releases taken over.", held.swaps),
        lambda: counter("matinee_release_refused", "Releases refused.", held.refused),
        lambda: gauge("matinee_history_open", "Whether histories can be read.", float(live.is_open)),
        lambda: counter("matinee_history_opened", "Times the history was opened.", live.opened),
        lambda: counter("matinee_history_failed", "Times the history failed.", live.failed),
    ]  # fmt: skip


def _bundle_info(held: ReleaseHolder) -> Metric:
    release = held.current
    arms = () if release is None else release.plan.arms
    models = {} if release is None else {version: b.manifest.model for version, b in release.bundles.items()}
    return labelled_gauge(
        "matinee_bundle_info",
        "The bundles that answer, with their arms' weights.",
        ("arm", "model_version", "model"),
        [((arm.name, arm.bundle, models[arm.bundle]), arm.weight) for arm in arms],
    )
