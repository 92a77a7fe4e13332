"""Repairing a line where what it meant is certain. A wrong repair is worse than a quarantine.

**Time without seconds → second 0.** The stream prints its times as Java's `LocalDateTime` does, which leaves
the seconds out exactly where second and fraction are zero: in a real sample every line of second 0 of its minute,
and no other, comes without. So nothing is guessed: the shorter text is the time.

**One stray character → taken out.** The stream now and then inserts one space or letter anywhere in a line. If
that is what happened to a line that cannot be read, the original is among the lines that one deletion gives, and
it is readable. If all readable ones among them are the same line, that line is the original: there is no
other candidate. If there are several, or none, the line stays as it is and is quarantined for its first fault.

Not every character is a candidate, for a readable result must not hide another explanation:

* A digit counts only inside the fixed text (`/data/5m/`), where none can be. In a field it may be the true one:
  user, minute, time and `=15` are never shortened.
* A letter in a rating is not taken out: `=D4` may be a bad rating as well as a 4.
* A `Z` that ends a time says "UTC"; without it the time would be read as local.
* A capital that begins a title's word (`Inception+2010`) may belong to it.
* A lone letter after a movie's last `+` may be a title that was cut off; without it a movie of no year would
  be made up (`jurassic+p` is not `jurassic+`).

What cannot be seen cannot be repaired: a stray small letter inside a title, or a digit in a number, gives a line
that reads well.
"""

import re
from string import ascii_letters, digits

from matinee.events import grammar
from matinee.events.reading import Repair, Unreadable
from matinee.events.scenario import Line, parse_line

MAX_REPAIRED_LENGTH = 8_192
"""Characters; forty recommended movies need less. Bounds the work that a hostile line can cause."""

_LONGEST_FIELD = 300
_STRAYS = frozenset(" " + ascii_letters + digits)
_SOUND = re.compile(
    rf"(?:{grammar.TIME},(?:{grammar.USER},(?:"
    rf"{grammar.WATCH_FORM}(?:{grammar.MOVIE}/)?"
    rf"|{grammar.RATING_FORM}(?:{grammar.MOVIE}=)?"
    rf"|{grammar.RECEIVED_FORM}(?:{grammar.HOST}, status (?:{grammar.STATUS}, result: (?:{grammar.MOVIE}, )*)?)?"
    r")?)?)?"
)
"""The longest part of a line, from its start, whose fields are whole and right."""
_READABLE = re.compile(
    rf"(?P<time>{grammar.TIME}),(?P<user>{grammar.USER}),(?:"
    rf"{grammar.WATCH_FORM}(?P<watched>{grammar.MOVIE})/(?P<minute>{grammar.MINUTE})\.mpg"
    rf"|{grammar.RATING_FORM}(?P<rated>{grammar.MOVIE})=(?P<rating>{grammar.RATING})"
    rf"|{grammar.RECEIVED_FORM}(?P<host>{grammar.HOST}), status (?P<status>{grammar.STATUS}), "
    r"result: (?P<result>.+))",
    re.DOTALL,
)
"""Every readable line matches this, and some others; its groups say where the fields stand."""


def read_or_repair(text: str, timezone: str) -> tuple[Line, tuple[Repair, ...]]:
    """Read a line, repaired where its meaning is certain.

    Raises:
        Unreadable: with the reason of the line as it stands.
    """
    repairs: list[Repair] = []
    try:
        line = parse_line(text, timezone)
    except Unreadable:
        restored = without_stray(text, timezone)
        if restored is None:
            raise
        line = restored
        repairs.append(Repair.STRAY)
    if line.without_seconds:
        repairs.insert(0, Repair.SECONDS)
    return line, tuple(repairs)


def without_stray(text: str, timezone: str) -> Line | None:
    """The one readable line that deleting one stray character gives, or None where none is certain."""
    if len(text) > MAX_REPAIRED_LENGTH:
        return None
    # Fields that are whole and right stay so, and what follows them stays wrong, whatever is taken out of them:
    # the stray is in the first field that is not, or in the separator before it.
    sound = _SOUND.match(text)
    start = max(0, sound.end() - 1) if sound else 0
    found: Line | None = None
    for position in range(start, min(len(text), start + _LONGEST_FIELD)):
        stray = text[position]
        if stray not in _STRAYS or (position > start and text[position - 1] == stray):
            continue
        candidate = text[:position] + text[position + 1 :]
        match = _READABLE.fullmatch(candidate)
        line = _parsed(candidate, timezone) if match else None
        if match is None or line is None:
            continue
        touched = _field_at(match, position)
        if stray in digits and touched:
            continue
        if found is not None or not _is_certain(candidate, position, stray, touched):
            return None
        found = line
    return found


def _parsed(text: str, timezone: str) -> Line | None:
    try:
        return parse_line(text, timezone)
    except Unreadable:
        return None


def _field_at(line: re.Match[str], position: int) -> str | None:
    """The field of a readable line that a character inserted at `position` would touch."""
    fields = (name for name, text in line.groupdict().items() if text is not None)
    return next((name for name in fields if line.start(name) <= position <= line.end(name)), None)


def _is_certain(line: str, position: int, stray: str, field: str | None) -> bool:
    if stray == " " or stray in digits:
        return True
    before, after = line[position - 1 : position], line[position : position + 1]
    match field:
        case "rating":
            return False
        case "time":
            return not (stray in "Zz" and after == ",")
        case "watched" | "rated" | "result":
            begins_word = stray.isupper() and before in set("/+ _-.") and after.islower()
            stands_alone = before == "+" and after in {"/", "=", ","}
            return not begins_word and not stands_alone
        case _:
            return True
