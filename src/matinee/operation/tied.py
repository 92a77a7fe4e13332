"""Run a program that ends when its parent does: `python -m matinee.operation.tied PROGRAM …`.

The kernel sends SIGTERM to the program when its parent ends, however that happens (`prctl(2)`, PR_SET_PDEATHSIG;
Linux only). So nothing that `matinee up` started outlives it.
"""

import ctypes
import os
import signal
import sys

PARENT = "MATINEE_TIED_TO"
"""The environment variable in which a program says its process id to those it starts."""
_PR_SET_PDEATHSIG = 1


def main(words: list[str]) -> None:
    """Tie this process to its parent, then become the program."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    expected = os.environ.get(PARENT)
    if expected is not None and int(expected) != os.getppid():
        sys.exit(0)  # the parent ended before the kernel was told of it
    os.environ[PARENT] = str(os.getpid())
    os.execvp(words[0], words)  # noqa: S606 - the words are this package's own


if __name__ == "__main__":
    main(sys.argv[1:])
