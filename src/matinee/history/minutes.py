"""The set of distinct minutes of one item that somebody watched, kept exactly and small.

People watch in runs, so a set is a flat list of runs `[first, last, first, last, …]`, both inclusive, rising and
never touching: a whole movie is two numbers. A set in more than `MAX_RUNS` runs becomes a bit map (little-endian,
at most 180 bytes for a day's minutes), so that no way of watching makes it large.
"""

from bisect import bisect_left

Minutes = list[int] | bytes
"""Runs, or a bit map."""

MAX_RUNS = 40


def add_minute(minutes: Minutes, minute: int) -> Minutes:
    """The set with one minute more. A list of runs may be changed in place; use what is returned."""
    if isinstance(minutes, bytes):
        bits = int.from_bytes(minutes, "little") | 1 << minute
        return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    if not minutes:
        return [minute, minute]
    if minutes[-1] == minute - 1:  # people watch on
        minutes[-1] = minute
        return minutes
    _add_to_runs(minutes, minute)
    return minutes if len(minutes) <= 2 * MAX_RUNS else _as_bits(minutes)


def count_minutes(minutes: Minutes) -> int:
    """How many distinct minutes are in the set."""
    if not minutes:
        return 0
    if isinstance(minutes, bytes):
        return int.from_bytes(minutes, "little").bit_count()
    return sum(minutes[1::2]) - sum(minutes[::2]) + len(minutes) // 2


def _add_to_runs(runs: list[int], minute: int) -> None:
    after = bisect_left(runs, minute)  # odd: inside a run, or its last minute; even: before a run, or its first
    if after % 2 or (after < len(runs) and runs[after] == minute):
        return
    joins_left = after > 0 and runs[after - 1] == minute - 1
    joins_right = after < len(runs) and runs[after] == minute + 1
    if joins_left and joins_right:
        del runs[after - 1 : after + 1]
    elif joins_left:
        runs[after - 1] = minute
    elif joins_right:
        runs[after] = minute
    else:
        runs[after:after] = (minute, minute)


def _as_bits(runs: list[int]) -> bytes:
    bits = 0
    for first, last in zip(runs[::2], runs[1::2], strict=True):
        bits |= ((1 << (last - first + 1)) - 1) << first
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
