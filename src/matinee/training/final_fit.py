"""The fit of what is published: to everything, and from where the last one ended if that is kept."""

from dataclasses import dataclass
from typing import Any

from matinee.core.settings import TrainingSettings
from matinee.dataset.snapshot import Snapshot
from matinee.models.base import Model
from matinee.models.registry import make
from matinee.training.candidates import Evaluation, StepProgress
from matinee.training.warm import Earlier, warm_params


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model fitted to everything.

    Attributes:
        model: the model.
        params: the hyperparameters asked for; a fit that began from an earlier one made fewer epochs.
        warm_start: as `Provenance` has it.
    """

    model: Model[Any]
    params: dict[str, Any]
    warm_start: dict[str, Any] | None


def fit_to_everything(
    chosen: Evaluation,
    snapshot: Snapshot,
    settings: TrainingSettings,
    earlier: Earlier | None,
    progress: StepProgress,
) -> Fitted:
    """Fit what was chosen to the whole snapshot, from where an earlier fit ended if one is given.

    Args:
        chosen: the model and its hyperparameters.
        snapshot: what to fit to.
        settings: the seed and the number of threads.
        earlier: of the same model and hyperparameters.
        progress: called after each step.
    """
    params = chosen.params
    start, origin = None, None
    if earlier is not None:
        params = warm_params(chosen.name, params)
        start = earlier.start_for(snapshot.users, snapshot.items)
        origin = {"version": earlier.version, "content": earlier.content, "epochs": params["n_epochs"]}
    model = make(chosen.name, params)
    model.fit(
        snapshot.interactions,
        seed=settings.seed,
        threads=settings.threads,
        progress=lambda done, total: progress(f"fitting {chosen.name} to everything", done, total),
        start=start,
    )
    return Fitted(model, chosen.params, origin)
