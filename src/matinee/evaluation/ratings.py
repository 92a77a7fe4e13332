"""Errors of predicted ratings."""

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput, Unsuitable


def rmse(predicted: NDArray[np.floating], actual: NDArray[np.floating]) -> float:
    """Root mean squared error, √(1/n · Σ (r̂ − r)²), in units of the rating. Summed in float64.

    Args:
        predicted: r̂, shape (n,).
        actual: r, shape (n,).

    Raises:
        InvalidInput: the shapes differ, or a value is NaN or infinite; says where.
        Unsuitable: there are no ratings.
    """
    return float(np.sqrt(np.mean(_errors(predicted, actual) ** 2)))


def mae(predicted: NDArray[np.floating], actual: NDArray[np.floating]) -> float:
    """Mean absolute error, 1/n · Σ |r̂ − r|, in units of the rating. Arguments and errors as for `rmse`."""
    return float(np.mean(np.abs(_errors(predicted, actual))))


def user_rmse(
    predicted: NDArray[np.floating], actual: NDArray[np.floating], user_index: NDArray[np.int32]
) -> NDArray[np.float64]:
    """RMSE over each user's own ratings, float64, shape (users with a rating,), by ascending user index.

    Args:
        predicted: r̂, shape (n,).
        actual: r, shape (n,).
        user_index: whose ratings they are, shape (n,).

    Raises:
        InvalidInput, Unsuitable: as for `rmse`.
    """
    squared = _errors(predicted, actual) ** 2
    _, place, count = np.unique(user_index, return_inverse=True, return_counts=True)
    return np.sqrt(np.bincount(place, weights=squared) / count)


def _errors(predicted: NDArray[np.floating], actual: NDArray[np.floating]) -> NDArray[np.float64]:
    if predicted.shape != actual.shape or predicted.ndim != 1:
        raise InvalidInput(f"predicted has shape {predicted.shape} and actual {actual.shape}; expected (n,) twice")
    if not predicted.size:
        raise Unsuitable("an error over no ratings is not defined", remedy="Hold out some ratings.")
    for name, array in (("predicted", predicted), ("actual", actual)):
        wrong = np.flatnonzero(~np.isfinite(array))
        if wrong.size:
            raise InvalidInput(f"{name}[{wrong[0]}] is {array[wrong[0]]}; expected a number")
    errors: NDArray[np.float64] = predicted.astype(np.float64) - actual.astype(np.float64)
    return errors
