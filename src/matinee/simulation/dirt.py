"""The dirt of a real stream, at a stated rate.

What a real sample shows and other deployments saw: one stray space or letter anywhere; a random alphanumeric
movie; a rating of `D` or `15`; a field that is missing; a line that comes twice. Times without seconds are not dirt
but how the service prints second 0 (see `matinee.simulation.lines`).
"""

from string import ascii_letters

import numpy as np

STRAY, UNKNOWN_MOVIE, BAD_RATING, MISSING_FIELD, REPEATED = KINDS = (
    "stray character",
    "random movie",
    "bad rating",
    "missing field",
    "repeated",
)
_STRAYS = (" " + ascii_letters).encode()
_ALPHANUMERIC = b"0123456789abcdefghijklmnopqrstuvwxyz"


def soil(lines: list[bytes], rate: float, random: np.random.Generator) -> tuple[list[bytes], dict[str, int]]:
    """The lines with dirt, and how many of each kind there are.

    Each line is dirty with probability `rate`, each kind as often as another; a bad rating falls on a line that
    rates, a random movie on one that watches, elsewhere both become a stray character.
    """
    counts = dict.fromkeys(KINDS, 0)
    if rate == 0 or not lines:
        return lines, counts
    result: list[bytes] = []
    last = 0
    for row in np.flatnonzero(random.random(len(lines)) < rate).tolist():
        result += lines[last:row]
        kind = _suited(KINDS[random.integers(len(KINDS))], lines[row])
        counts[kind] += 1
        result += _dirty(kind, lines[row], random)
        last = row + 1
    return result + lines[last:], counts


def _suited(kind: str, line: bytes) -> str:
    rates, watches = b"GET /rate/" in line, b"GET /data/m/" in line
    if (kind == BAD_RATING and not rates) or (kind == UNKNOWN_MOVIE and not watches):
        return STRAY
    return kind


def _dirty(kind: str, line: bytes, random: np.random.Generator) -> list[bytes]:
    if kind == REPEATED:
        return [line, line]
    if kind == BAD_RATING:
        return [line[: line.rindex(b"=") + 1] + (b"D", b"15")[random.integers(2)]]
    if kind == UNKNOWN_MOVIE:
        time, user, request = line.split(b",", 2)
        name = bytes(random.choice(list(_ALPHANUMERIC), 8).tolist())
        return [b"%b,%b,GET /data/m/%b/%b" % (time, user, name, request.rsplit(b"/", 1)[1])]
    if kind == MISSING_FIELD:
        fields = line.split(b",", 2)
        fields[random.integers(2)] = b""
        return [b",".join(fields)]
    place = int(random.integers(len(line) + 1))
    return [line[:place] + _STRAYS[random.integers(len(_STRAYS)) :][:1] + line[place:]]
