"""`matinee train`: one run, from a version of the lake to a bundle that passed the gate, or to a refusal."""

from dataclasses import dataclass, field, replace
from typing import Any

from matinee.bundle.contents import BundleContents
from matinee.bundle.manifest import Gate, Manifest, Provenance, list_bundles, source_ends
from matinee.bundle.provenance import code_version, library_versions
from matinee.bundle.write import write_bundle
from matinee.core.budget import data_gate
from matinee.core.clock import Clock
from matinee.core.erasures import ERASED, read_erasures
from matinee.core.errors import Corrupt, GateRefused, Unsuitable
from matinee.core.home import Home
from matinee.core.settings import Settings, TrainingSettings
from matinee.dataset.quality import QualityReport, check
from matinee.dataset.snapshot import Snapshot, take_snapshot
from matinee.dataset.splits import split
from matinee.lake.lake import Lake
from matinee.models.base import Model
from matinee.models.registry import make
from matinee.training import warm
from matinee.training.answers import (
    fold_in_arrays,
    item_attributes,
    popularity_orders,
    trending_order,
    user_blocks,
    with_whole_catalogue,
)
from matinee.training.candidates import Evaluation, StepProgress, bias_rmse, evaluate
from matinee.training.exposure import TABLE as SERVED
from matinee.training.exposure import Shown, shown_by_popularity
from matinee.training.final_fit import Fitted, fit_to_everything
from matinee.training.gate import Verdict, judge
from matinee.training.predicted_ratings import rating_fold_in

POPULARITY = "popularity"


@dataclass(frozen=True, slots=True)
class Request:
    """What a run was asked for.

    Args:
        models: names of the candidates; of those that pass the gate the one with the best nDCG@10 is kept.
        params: hyperparameters by model name, over the defaults.
        versions: version of each lake table to train on; the latest where not given.
        expect_hash: the content hash that the snapshot must have, when a run is repeated.
        skip_unsuitable: pass over candidates that the data does not suit (an items × items matrix that does not
            fit, say) instead of ending the run; what they said is noted.
        accept_data: go on although a check of the data would stop the run; what it found is still noted.
        warm: whether the fit of what is published goes on from where the last published one of the same model and
            hyperparameters ended, if there is one; nothing: where the model converges (`Capabilities`).
        begin_from: of a run that is repeated, what its fit began from (`Provenance.warm_start`).
    """

    models: tuple[str, ...]
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] | None = None
    expect_hash: str | None = None
    skip_unsuitable: bool = False
    accept_data: bool = False
    warm: bool | None = None
    begin_from: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did."""

    bundle: str | None
    """The bundle's version; nothing where no candidate passed."""
    chosen: str | None
    evaluations: list[Evaluation]
    verdicts: dict[str, Verdict]
    bias_rmse: float | None
    quality: QualityReport
    snapshot: Snapshot
    unsuitable: dict[str, str] = field(default_factory=dict)
    """Candidates that were passed over, and why."""
    ranked_higher: tuple[str, ...] = ()
    """Candidates that passed with a higher nDCG than the chosen one, and that servers cannot fold users into."""
    mlflow_version: str | None = None
    fitted: Fitted | None = None
    """The model in the bundle."""

    def raise_if_refused(self) -> None:
        """Raise `GateRefused` with the figures where no candidate passed."""
        if self.bundle is not None:
            return
        told = "; ".join(
            f"{name}: nDCG@10 {v.evidence['ndcg_at_10']:.4f} against popularity's "
            f"{v.evidence['popularity_ndcg_at_10']:.4f}, lower bound of the difference "
            f"{v.evidence['difference_low']:+.4f}"
            for name, v in self.verdicts.items()
        )
        raise GateRefused(
            f"no candidate passed the gate: {told}",
            remedy="Nothing was published. Try another model, more data, or `--model popularity` for the baseline.",
        )


def repeat_of(manifest: Manifest) -> Request:
    """The request that makes the same run again."""
    return Request(
        models=(manifest.model,),
        params={manifest.model: manifest.params},
        versions=manifest.lake_versions,
        expect_hash=manifest.content_hash,
        warm=manifest.warm_start is not None,
        begin_from=manifest.warm_start,
    )


def train(
    request: Request, *, settings: Settings, home: Home, lake: Lake, clock: Clock, progress: StepProgress
) -> RunReport:
    """Make one run under the home's lock.

    Raises:
        Locked: another run is going on; says who holds the lock.
        QualityRefused: the data failed a check; says which.
        Unsuitable: there is too little to learn from or to evaluate on.
        Corrupt: a repeated run met other data than the first, or would begin from another model.
        DataUnavailable: what a run to repeat began from is no longer kept.
        OutOfRoom: the data root is full, before the long work or when the bundle is to be written.
    """
    for name in request.models:
        make(name, request.params.get(name))  # a wrong name or parameter is told before the long work
    room = data_gate(home, settings.budget, clock)
    with home.lock("train"):
        room.require()
        begin = request.begin_from
        earlier = warm.named(home, begin["version"], begin["content"]) if begin else None
        snapshot, quality = _snapshot(request, home=home, lake=lake, progress=progress)
        shown = shown_by_popularity(lake, snapshot)
        evaluations, unsuitable, rmse_of_bias = _evaluate_all(
            request, snapshot, shown, settings.training, clock, progress
        )
        popularity = next(e for e in evaluations if e.name == POPULARITY)
        options = settings.training
        verdicts = {
            e.name: judge(e, popularity, rmse_of_bias, resamples=options.bootstrap_resamples, seed=options.seed)
            for e in evaluations
            if e.name in request.models
        }
        report = RunReport(None, None, evaluations, verdicts, rmse_of_bias, quality, snapshot, unsuitable)
        chosen, higher = _best(evaluations, verdicts, prefer_live=options.prefer_live)
        if chosen is not None:
            fitted = fit_to_everything(chosen, snapshot, options, earlier or _last(request, chosen, home), progress)
            room.require()
            version = _publishable_bundle(
                chosen, fitted, report, settings=options, home=home, clock=clock, progress=progress
            )
            report = replace(report, bundle=version, chosen=chosen.name, ranked_higher=higher, fitted=fitted)
        progress("noting the run", 0, 1)
        return replace(report, mlflow_version=_track(report, settings=settings, home=home, clock=clock))


def _snapshot(
    request: Request, *, home: Home, lake: Lake, progress: StepProgress
) -> tuple[Snapshot, QualityReport]:
    progress("taking a snapshot of the lake", 0, 1)
    erased = read_erasures(home.data / ERASED)
    snapshot = take_snapshot(lake, versions=request.versions, without=erased or None)
    pinned = request.versions or lake.versions()
    if SERVED in pinned:  # runs were made before it was looked at
        snapshot = replace(snapshot, lake_versions={**snapshot.lake_versions, SERVED: pinned[SERVED]})
    if request.expect_hash not in (None, snapshot.content_hash, *snapshot.earlier_hashes):
        raise Corrupt(
            f"the lake at versions {request.versions} has content {snapshot.content_hash}; "
            f"the run to repeat had {request.expect_hash}",
            remedy="Rows were erased, or files were changed; the run is no longer repeatable.",
        )
    progress("checking the data", 0, 1)
    repeated = request.expect_hash is not None  # then its data was let through once, and is the same
    quality = check(snapshot, None if repeated else _previous_statistics(home))
    if not (request.accept_data or repeated):
        quality.raise_if_stopped()
    if len(snapshot.interactions) == 0:
        raise Unsuitable("the lake holds no interactions", remedy="Import a data set or ingest a stream first.")
    return snapshot, quality


def _previous_statistics(home: Home) -> dict[str, Any] | None:
    """What the last run that made a bundle knew of its data."""
    manifests = list_bundles(home.bundles)
    return manifests[-1].quality.get("statistics") if manifests else None


def _evaluate_all(
    request: Request,
    snapshot: Snapshot,
    shown: Shown,
    settings: TrainingSettings,
    clock: Clock,
    progress: StepProgress,
) -> tuple[list[Evaluation], dict[str, str], float | None]:
    kind = settings.split
    if kind == "auto":
        kind = "last" if snapshot.timed else "random"
    train_part, test_part = split(snapshot.interactions, kind, settings.test_fraction, seed=settings.seed)
    evaluations, unsuitable = [], {}
    for name in dict.fromkeys((POPULARITY, *request.models)):
        try:
            evaluations.append(
                evaluate(
                    name,
                    _params(name, request, settings),
                    train_part,
                    test_part,
                    shown=shown,
                    seed=settings.seed,
                    threads=settings.threads,
                    positive_rating=settings.positive_rating,
                    segments=snapshot.user_segment,
                    segment_names=snapshot.segments,
                    clock=clock,
                    progress=progress,
                )
            )
        except Unsuitable as error:
            if not request.skip_unsuitable or name == POPULARITY:
                raise
            unsuitable[name] = str(error)
    return evaluations, unsuitable, bias_rmse(train_part, test_part, seed=settings.seed)


def _params(name: str, request: Request, settings: TrainingSettings) -> dict[str, Any]:
    """What was asked for; a model that needs to know what liking is takes it from the settings."""
    given = request.params.get(name, {})
    if "positive_rating" in make(name).params_type.model_fields:
        return {"positive_rating": settings.positive_rating, **given}
    return given


def _best(
    evaluations: list[Evaluation], verdicts: dict[str, Verdict], *, prefer_live: bool
) -> tuple[Evaluation | None, tuple[str, ...]]:
    """What is published, and which candidates rank better than it.

    No evaluation shows what it is worth that an answer knows what its user did since the fit.
    """
    passed = [e for e in evaluations if e.name in verdicts and verdicts[e.name].publishable]
    live = [e for e in passed if make(e.name).capabilities.online_fold_in] if prefer_live else []
    chosen = max(live or passed, key=lambda e: e.metrics["ndcg"], default=None)
    return chosen, tuple(e.name for e in passed if chosen and e.metrics["ndcg"] > chosen.metrics["ndcg"])


def _last(request: Request, chosen: Evaluation, home: Home) -> warm.Earlier | None:
    """What the last published fit of the same model and hyperparameters had learnt, where that is wanted."""
    wanted = make(chosen.name).capabilities.converges if request.warm is None else request.warm
    return warm.latest(home, chosen.name, chosen.params) if wanted else None


def _publishable_bundle(
    chosen: Evaluation,
    fitted: Fitted,
    report: RunReport,
    *,
    settings: TrainingSettings,
    home: Home,
    clock: Clock,
    progress: StepProgress,
) -> str:
    contents = bundle_contents(
        fitted.model, report.snapshot, _provenance(chosen, fitted, report, settings), settings, progress
    )
    return write_bundle(home.bundles, contents=contents, clock=clock)


def bundle_contents(
    model: Model[Any],
    snapshot: Snapshot,
    provenance: Provenance,
    settings: TrainingSettings,
    progress: StepProgress,
) -> BundleContents:
    """What is written: the model's answers for everybody, what it answers newcomers with, and the whole catalogue.

    Args:
        model: fitted to the snapshot.
        snapshot: what it was fitted to.
        provenance: what the run says of itself.
        settings: how many answers there are, what liking is, and how many threads work.
        progress: called after each block of users.
    """
    met = with_whole_catalogue(snapshot)
    overall, by_segment = popularity_orders(
        met, snapshot.user_segment, len(snapshot.segments), settings.positive_rating
    )
    return BundleContents(
        provenance=provenance,
        items=(*snapshot.items.ids, *snapshot.extra_items),
        item_minutes=snapshot.item_minutes,
        popular=overall,
        segments=snapshot.segments,
        popular_by_segment=by_segment,
        users=user_blocks(model, snapshot, n=settings.top_n, threads=settings.threads, progress=progress),
        fold_in=fold_in_arrays(model, n_items=met.n_items),
        ratings=rating_fold_in(model, met),
        attributes=item_attributes(snapshot.attributes, met),
        trending=trending_order(met, settings.positive_rating),
    )


def _provenance(chosen: Evaluation, fitted: Fitted, report: RunReport, settings: TrainingSettings) -> Provenance:
    snapshot, verdict = report.snapshot, report.verdicts[chosen.name]
    return Provenance(
        model=chosen.name,
        params=chosen.params,
        seed=settings.seed,
        lake_versions=snapshot.lake_versions,
        offsets=source_ends(snapshot.offsets),
        time_range=snapshot.time_range,
        row_counts=snapshot.row_counts,
        content_hash=snapshot.content_hash,
        code=code_version(),
        libraries=library_versions(),
        metrics={"all": dict(chosen.metrics), **{k: dict(v) for k, v in chosen.by_subgroup.items()}},
        gate=Gate(passed=verdict.publishable, evidence={"verdict": verdict.ranking, **verdict.evidence}),
        candidates={e.name: {**e.metrics, "fit_seconds": e.fit_seconds} for e in report.evaluations}
        | {name: {"unsuitable": why} for name, why in report.unsuitable.items()},
        options=settings.model_dump(mode="json"),
        quality=report.quality.as_dict(),
        warm_start=fitted.warm_start,
    )


def _track(report: RunReport, *, settings: Settings, home: Home, clock: Clock) -> str | None:
    from matinee.training.tracking import Tracker  # noqa: PLC0415 - MLflow takes a second to import

    tracker = Tracker(home.resolve(settings.mlflow_url), (home.data / "mlflow").as_uri())
    run_ids = {
        e.name: tracker.record_candidate(
            e.name,
            {**e.params, "seed": settings.training.seed},
            {**e.metrics, "fit_seconds": e.fit_seconds},
            {
                "content_hash": report.snapshot.content_hash,
                "gate": report.verdicts[e.name].ranking if e.name in report.verdicts else "yardstick",
                "bundle": report.bundle or "" if e.name == report.chosen else "",
            },
            clock.now_us(),
        )
        for e in report.evaluations
    }
    if report.bundle is None or report.chosen is None:
        return None
    return tracker.register(report.bundle, (home.bundles / report.bundle).as_uri(), run_ids[report.chosen])
