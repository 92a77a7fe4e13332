"""The only bridge between ids (strings) and indices (int32)."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput


class Vocabulary:
    """Ids in a fixed order; an id's index is its place in that order.

    Args:
        ids: distinct ids.

    Raises:
        InvalidInput: an id stands there twice.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = tuple(ids)
        self._index = {text: index for index, text in enumerate(self._ids)}
        if len(self._index) != len(self._ids):
            raise InvalidInput("a vocabulary holds an id twice")

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, text: object) -> bool:
        return text in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._ids == other._ids

    def __hash__(self) -> int:
        return hash(self._ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids, in the order of their indices."""
        return self._ids

    def index(self, text: str) -> int | None:
        """The index of an id, or nothing where it is unknown."""
        return self._index.get(text)

    def indices(self, texts: Iterable[str]) -> NDArray[np.int32]:
        """The indices of ids, in their order; -1 where an id is unknown."""
        return np.fromiter((self._index.get(text, -1) for text in texts), dtype=np.int32)

    def id(self, index: int) -> str:
        """The id at an index."""
        if index < 0:
            raise IndexError(index)
        return self._ids[index]

    def ids_at(self, indices: "Sequence[int] | NDArray[np.int32]") -> list[str]:
        """The ids at indices, in their order."""
        return [self.id(int(index)) for index in indices]
