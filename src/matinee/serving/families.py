"""The metric families of the service, by name."""

from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric

from matinee.serving.fold_cache import FoldCache
from matinee.serving.load import Load
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

if TYPE_CHECKING:
    from matinee.serving.service import Service


def families(service: "Service") -> list[Family]:
    """What each metric is called, and where its value comes from."""
    held, live, rules, events = service.releases, service.history, service.rules, service.events
    erased = service.erased
    return [
        *_answers(service.counters),
        *_telemetry(service.telemetry),
        lambda: _bundle_info(held),
        lambda: counter("matinee_release_swaps", "Releases taken over.", held.swaps),
        lambda: counter("matinee_release_refused", "Releases refused.", held.refused),
        lambda: gauge("matinee_bundles_open", "Bundles open, those in their grace period too.", held.held),
        lambda: gauge("matinee_history_open", "Whether histories can be read.", float(live.is_open)),
        lambda: counter("matinee_history_opened", "Times the history was opened.", live.opened),
        lambda: counter("matinee_history_failed", "Times the history failed.", live.failed),
        lambda: gauge("matinee_rules_version", "Grows with each change of the rules.", rules.version),
        lambda: counter("matinee_rules_refused", "Files of rules that could not be read.", rules.refused),
        lambda: gauge("matinee_erasures_known", "Whether it is known who is erased.", float(erased.is_known)),
        lambda: counter("matinee_erasures_refused", "Files of erasures that could not be read.", erased.refused),
        lambda: counter("matinee_events_accepted", "Posted events that are in the log.", events.accepted),
        lambda: counter("matinee_events_refused", "Posted events that the log did not take.", events.refused),
        lambda: _breakers(service),
        lambda: _breakers_opened(service),
        *_load(service.load),
        *([] if service.folded is None else _fold_cache(service.folded)),
        *service.guard.families(),
    ]


def _answers(hot: HotCounters) -> list[Family]:
    return [
        lambda: labelled_counter(
            "matinee_answers", "Answers, by the step that gave them.", ("step", "model_version"),
            [((str(step), version), n) for (step, version), n in list(hot.answers.items())],
        ),
        lambda: labelled_counter(
            "matinee_answers_without", "What answers did without, and why.", ("part", "reason"),
            [((str(part), str(reason)), n) for (part, reason), n in list(hot.without.items())],
        ),
        lambda: labelled_counter(
            "matinee_responses", "HTTP responses, by status.", ("status",),
            [((str(status),), n) for status, n in list(hot.responses.items())],
        ),
        lambda: histogram("matinee_answer_seconds", "From arrival until an answer was chosen.", hot.latency),
    ]  # fmt: skip


def _telemetry(telemetry: Telemetry) -> list[Family]:
    counts = telemetry.counts
    return [
        lambda: counter("matinee_telemetry_offered", "Records offered.", counts().offered),
        lambda: counter("matinee_telemetry_written", "Records in the log.", counts().written),
        lambda: counter("matinee_telemetry_dropped", "Records lost.", counts().dropped),
        lambda: gauge("matinee_telemetry_queued", "Records waiting.", counts().waiting),
    ]


def _load(load: Load) -> list[Family]:
    return [
        lambda: gauge("matinee_load_shed", "What is shed: 0 nothing, 1 scoring, 2 the history too.", load.shed),
        lambda: gauge("matinee_load_late_seconds", "How long requests wait for their turn.", load.late_seconds),
        lambda: counter("matinee_load_raised", "Times that more was shed.", load.raised),
    ]


def _fold_cache(cache: FoldCache) -> list[Family]:
    return [
        lambda: gauge("matinee_fold_cache_open", "Whether kept fold-ins can be read.", float(cache.is_open)),
        lambda: counter("matinee_fold_cache_hits", "Fold-ins that were found.", cache.hits),
        lambda: counter("matinee_fold_cache_misses", "Fold-ins that were not.", cache.misses),
        lambda: counter("matinee_fold_cache_written", "Fold-ins kept.", cache.written),
        lambda: counter("matinee_fold_cache_dropped", "Fold-ins that did not fit the queue.", cache.dropped),
        lambda: gauge("matinee_fold_cache_queued", "Fold-ins that wait to be kept.", cache.waiting),
        lambda: counter("matinee_fold_cache_emptied", "Times it was emptied.", cache.emptied),
        lambda: counter(
            "matinee_fold_cache_remade", "Times it was unreadable, or told of the erased.", cache.remade
        ),
    ]


def _breakers(service: "Service") -> Metric:
    rows = [((breaker.name,), float(breaker.state)) for breaker in service.breakers]
    return labelled_gauge(
        "matinee_breaker_state", "Of each store: 0 asked, 1 tried again, 2 left alone.", ("store",), rows
    )


def _breakers_opened(service: "Service") -> Metric:
    rows = [((breaker.name,), float(breaker.opened)) for breaker in service.breakers]
    return labelled_counter("matinee_breaker_opened", "Times that a store was left alone.", ("store",), rows)


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
