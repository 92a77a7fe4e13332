"""The gate: what a model must show before it may answer anybody.

- A model that ranks must beat popularity on full-catalogue nDCG@10: the lower bound of the 95% interval of a
  paired bootstrap over users lies above zero. Only what passes this is published.
- A model that predicts ratings must beat the bias baseline on RMSE. That says it learnt something of the
  ratings; it says nothing about ranking (see docs/decisions), and alone it publishes nothing.

Popularity is the yardstick itself, and the last fallback of every answer. It is published only where it was
asked for by name, with the verdict `baseline`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from matinee.evaluation.bootstrap import Interval, paired_bootstrap
from matinee.training.candidates import Evaluation

RankingVerdict = Literal["passed", "refused", "baseline"]
RatingVerdict = Literal["passed", "refused", "not applicable"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said of one candidate, and on what evidence."""

    ranking: RankingVerdict
    rating: RatingVerdict
    evidence: dict[str, Any]
    """JSON values: both rules' figures."""

    @property
    def publishable(self) -> bool:
        """Whether a bundle of this model may be made."""
        return self.ranking != "refused"


def judge(
    candidate: Evaluation, popularity: Evaluation, bias_rmse: float | None, *, resamples: int, seed: int
) -> Verdict:
    """Hold a candidate against the gate.

    Args:
        candidate: evaluated on the same split, and so on the same users in the same order, as `popularity`.
        popularity: the yardstick of ranking.
        bias_rmse: RMSE of the bias baseline on the same split; nothing where no ratings are held out.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    evidence: dict[str, Any] = {
        "ndcg_at_10": candidate.metrics["ndcg"],
        "popularity_ndcg_at_10": popularity.metrics["ndcg"],
        "users": int(candidate.ndcg.size),
    }
    ranking: RankingVerdict = "baseline"
    if candidate.name != popularity.name:
        interval = paired_bootstrap(candidate.ndcg, popularity.ndcg, resamples=resamples, seed=seed)
        ranking = "passed" if interval.low > 0 else "refused"
        evidence |= _interval(interval)
    rating: RatingVerdict = "not applicable"
    if bias_rmse is not None:
        evidence["bias_rmse"] = bias_rmse
        if candidate.rmse is not None:
            rating = "passed" if candidate.rmse < bias_rmse else "refused"
            evidence["rmse"] = candidate.rmse
    return Verdict(ranking, rating, evidence)


def _interval(interval: Interval) -> dict[str, Any]:
    return {"difference": interval.mean, "difference_low": interval.low, "difference_high": interval.high}
