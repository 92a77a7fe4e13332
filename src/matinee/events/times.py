"""Local times of lines to UTC microseconds.

An ambiguous time (a clock set back) takes the earlier; a time that never was (a clock set forward) has none.
Both the one-line and the vectorised reader come here, so one time-zone database decides for both.
"""

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import polars as pl

from matinee.core.clock import MINUTE, SECOND
from matinee.core.errors import ConfigurationError


@lru_cache(maxsize=32)
def zone_named(name: str) -> ZoneInfo:
    """The IANA time zone of that name.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"unknown time zone {name!r}", remedy="Use an IANA name such as Europe/Berlin."
        ) from error


def local_to_us(minute: str, second: str | None, fraction: str | None, timezone: str) -> int | None:
    """UTC microseconds of a local time in the groups of `grammar.TIME`, or None where it never was.

    Digits past the microsecond are cut. A time before 1970 is none either: nothing was streamed then.
    """
    try:
        naive = _naive(minute, second or "0")
        local = naive.replace(tzinfo=zone_named(timezone))
        if timezone != "UTC" and local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) != naive:
            return None
        whole = round(local.timestamp())
    except (ValueError, OverflowError):
        return None
    microseconds = int((fraction or "0").ljust(6, "0")[:6])
    return whole * SECOND + microseconds if whole >= 0 else None


def _naive(minute: str, second: str) -> datetime:
    date = int(minute[:4]), int(minute[5:7]), int(minute[8:10])
    return datetime(*date, int(minute[11:13]), int(minute[14:16]), int(second))  # noqa: DTZ001 - local time


def hour_to_us(hour: str, timezone: str) -> int | None:
    """UTC microseconds of `YYYY-MM-DDTHH`, or None unless the hour has all its minutes, one after the other.

    An hour that comes twice has them: each of its times takes the earlier. One in which the clock is set forward
    has not; each of its times then needs `local_to_us`.
    """
    first, last = local_to_us(f"{hour}:00", "00", None, timezone), local_to_us(f"{hour}:59", "59", None, timezone)
    whole = first is not None and last is not None and last - first == 59 * MINUTE + 59 * SECOND
    return first if whole else None


def times_to_us(minute: pl.Series, second: pl.Series, fraction: pl.Series, timezone: str) -> pl.Series:
    """`local_to_us` over columns: the calendar and the zone are asked once for each hour that occurs.

    Args:
        minute: texts of the form `grammar.MINUTE_TIME`, minutes below 60.
        second: two digits below 60, or null for none.
        fraction: 1 to 9 digits, or null for none.
        timezone: IANA name.

    Returns:
        Int64; null where `local_to_us` has to decide.
    """
    hour = minute.str.slice(0, 13)
    hours = hour.unique().drop_nulls().to_list()
    starts = pl.Series([hour_to_us(text, timezone) for text in hours], dtype=pl.Int64)
    start = hour.replace_strict(hours, starts, default=None, return_dtype=pl.Int64)
    minutes = minute.str.slice(14, 2).cast(pl.Int64)
    seconds = second.cast(pl.Int64).fill_null(0)
    microseconds = fraction.str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64).fill_null(0)
    return start + minutes * MINUTE + seconds * SECOND + microseconds
