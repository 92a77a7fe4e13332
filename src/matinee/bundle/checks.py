"""Checks of arrays that several parts of a bundle share."""

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput


def expect(name: str, array: NDArray[np.generic], dtype: str, shape: tuple[int, ...]) -> None:
    """Raise `InvalidInput` where dtype or shape differ."""
    if array.dtype != dtype or array.shape != shape:
        raise InvalidInput(f"{name} is {array.dtype}{array.shape}; expected {dtype}{shape}")


def expect_range(name: str, array: NDArray[np.integer], low: int, end: int) -> None:
    """Raise `InvalidInput` where a value is below `low`, or not below `end`."""
    if array.size and not (low <= array.min() and array.max() < end):
        raise InvalidInput(f"{name} holds {array.min()} to {array.max()}; expected {low} to {end - 1}")
