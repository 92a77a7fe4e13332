"""The tree of errors.

Every error says where, what, and what to do. Its type says whether trying again can help:

    MatineeError
    ├── RetryableError            the same call may go through later
    │   ├── StoreUnavailable      a log, lake, history or database did not answer
    │   ├── Locked                somebody else is at it
    │   └── OutOfRoom             a root's disk or budget is full
    └── FatalError                the same call fails again until something is changed
        ├── ConfigurationError    a setting is wrong
        ├── InvalidInput          data or arguments are wrong
        │   └── InvalidId         an id that cannot be an id
        ├── Unsuitable            the data cannot support what was asked of it (untimed, too few)
        ├── DataUnavailable       a data set could not be reached anywhere
        ├── Corrupt               stored bytes are not what was written
        ├── FormatTooNew          stored by a newer matinee than this one
        ├── GenerationChanged     the log was lost or made again: its positions mean something else
        ├── Fenced                a newer owner has gone on; this one must stop
        ├── QualityRefused        the data failed a check before training
        └── GateRefused           a model did not earn its place
"""

import errno

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class MatineeError(Exception):
    """Base of all errors that matinee raises on purpose.

    Args:
        message: where and what, in one sentence.
        remedy: what to do about it; shown to people on a line of its own.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the remedy when an error crosses a process boundary."""
        return (_rebuild, (type(self), str(self), self.remedy))


def _rebuild(kind: type[MatineeError], message: str, remedy: str) -> MatineeError:
    return kind(message, remedy=remedy)


class RetryableError(MatineeError):
    """The same call may go through later."""


class StoreUnavailable(RetryableError):
    """A log, lake, history or database did not answer."""


class Locked(RetryableError):
    """Somebody else holds what this call needs; the message says who."""


class OutOfRoom(RetryableError):
    """A root's disk or budget is full."""


def is_no_room(error: OSError) -> bool:
    """Whether the system had no room: a full disk, a quota, a limit of a file's size."""
    return error.errno in _NO_ROOM


class FatalError(MatineeError):
    """The same call fails again until something is changed."""


class ConfigurationError(FatalError):
    """A setting is wrong; the message names it."""


class InvalidInput(FatalError):
    """Data or arguments are wrong; the message says where."""


class InvalidId(InvalidInput):
    """A text that cannot be the id of a user or an item."""


class Unsuitable(FatalError):
    """The data cannot support what was asked of it: untimed, empty, too few."""


class DataUnavailable(FatalError):
    """A data set could not be reached by any route."""


class Corrupt(FatalError):
    """Stored bytes are not what was written; the message names the file."""


class FormatTooNew(FatalError):
    """Stored by a newer matinee than this one."""


class GenerationChanged(FatalError):
    """The log was lost or made again: its positions now mean something else."""


class Fenced(FatalError):
    """A newer owner has gone on; this one must stop writing."""


class QualityRefused(FatalError):
    """The data failed a check before training; the message lists the checks."""


class GateRefused(FatalError):
    """A model did not pass the gate; the message gives the figures."""
