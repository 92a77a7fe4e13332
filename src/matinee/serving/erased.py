"""Users whose erasure was asked for, as a server follows them: to every answer they are strangers.

This protects, so it fails closed: where the file cannot be read when a server starts, everybody is a stranger until
it can be. Later, who was erased before stays so.
"""

from collections.abc import Callable, Container
from pathlib import Path

from matinee.core.erasures import Erasures, read_erasures
from matinee.core.errors import MatineeError
from matinee.core.followed import Followed
from matinee.core.logging import get_logger

_log = get_logger(__name__)


class _Everybody:
    """Who is erased where nobody can say who is not."""

    def __contains__(self, user: object) -> bool:
        return True


class LiveErasures:
    """Follows the file of erasures. `look` belongs to one thread; the rest may be asked from any.

    Args:
        path: the file; there need not be one.
        changed: called with who is erased when the file was another.
    """

    def __init__(self, path: Path, changed: Callable[[Erasures], None] = lambda _: None) -> None:
        self._file = Followed(path)
        self._changed = changed
        self._known: Erasures | None = None
        self.strangers: Container[str | None] | None = _Everybody()
        """Who is to be a stranger; nothing where nobody is, so that asking costs an answer one test."""
        self.refused = 0
        """How many files could not be read."""
        self.why_not = "erasures were not looked for yet"
        """Why the newest file does not hold; empty where it does."""

    def __contains__(self, user: object) -> bool:
        """Whether a user is to be a stranger."""
        return self.strangers is not None and user in self.strangers

    @property
    def is_known(self) -> bool:
        """Whether a file could be read, or there is none; else everybody is a stranger."""
        return self._known is not None

    def names(self, user: str) -> bool:
        """Whether a file that could be read names the user: for what would else be lost."""
        return bool(self._known) and user in self  # what is known holds even where the newest file cannot be read

    def look(self) -> None:
        """Take the file over if it has changed. One thread at a time; nothing that the file holds raises."""
        if not self._file.has_changed():
            return
        try:
            found = read_erasures(self._file.path)
        except (MatineeError, OSError) as error:
            if isinstance(error, OSError):
                self._file.forget()
            self.refused += 1
            self.why_not = f"the newest erasures were refused: {error}"
            stays = "everybody is a stranger" if self._known is None else "who was erased before"
            _log.error("erasures_refused", error=str(error), remedy=getattr(error, "remedy", ""), stays=stays)
            return
        self.why_not = ""
        self._known, self.strangers = found, found or None
        self._changed(found)
        if found:
            _log.info("erasures_taken", users=len(found))
