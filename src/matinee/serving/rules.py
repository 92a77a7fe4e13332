"""The operator's rules: what is blocked, available, and fit for which age. Reloaded while the service runs.

They stand in `data/rules.toml`, written by hand or by `matinee rules`:

    format_version = 1
    blocked = ["some+movie+1999"]       # never shown
    unknown_age = 0                     # the age, in years, of users whose age is not known

    [available."other+movie+2024"]      # instead of what the catalogue says; either end may be left out
    from = 2026-12-24
    until = 2027-01-07                  # a date stands for its whole day; a time is UTC if it has no zone

    [age_limits]                        # instead of what the catalogue says; 0 lifts a limit
    "third+movie+1980" = 16

    [most_of_one_genre]                 # the share of a list's slots, instead of serving.most_of_one_genre
    Horror = 0.2

Everything may be left out, and without a file there is no rule. An item that the catalogue does not know (any more,
or yet) is kept and reported, never refused: catalogues change under a rule that stays.

A limit protects, so it fails closed: whose age is not known sees only what is fit for `unknown_age`, 0 unless the
operator says otherwise. Ages come from a service that is sometimes broken; a failed request must not open adult
films to a child, and the price of the opposite mistake is a film not shown.
"""

import threading
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from matinee.bundle.attributes import ALWAYS_US, ItemAttributes
from matinee.bundle.open import Bundle
from matinee.core.clock import DAY, SECOND, Clock
from matinee.core.errors import InvalidInput, MatineeError
from matinee.core.files import check_format, write_atomically
from matinee.core.followed import Followed
from matinee.core.logging import get_logger

RULES = "rules.toml"
"""Its name in the home's `data/`."""
RULES_FORMAT = 1
BUNDLES_KEPT = 4
"""Bundles for which masks are kept: more than a server holds at once."""

_log = get_logger(__name__)
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Age = Annotated[int, msgspec.Meta(ge=0, le=255)]


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """When an item is available; open where an end is left out."""

    from_: Any = None
    """A date or a time as TOML has them."""
    until: Any = None
    """The same; a time is exclusive, and a date stands for its whole day."""

    def us(self) -> tuple[int, int]:
        """Both ends in UTC microseconds, the second exclusive; the ends of int64 where open."""
        whole_day = 0 if isinstance(self.until, datetime) else DAY
        return (
            ALWAYS_US[0] if self.from_ is None else _us(self.from_),
            ALWAYS_US[1] if self.until is None else _us(self.until) + whole_day,
        )


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says; see the module."""

    format_version: int = RULES_FORMAT
    blocked: tuple[str, ...] = ()
    unknown_age: _Age = 0
    available: dict[str, Window] = {}
    age_limits: dict[str, _Age] = {}
    most_of_one_genre: dict[str, _Share] = {}

    @property
    def items(self) -> set[str]:
        """Every item that a rule names."""
        return {*self.blocked, *self.available, *self.age_limits}


def parse_rules(text: bytes, where: str) -> Rules:
    """The rules in the bytes of a file.

    Raises:
        InvalidInput: it is no TOML, or holds something that is no rule; the message says what and where.
        FormatTooNew: a newer matinee wrote it.
    """
    try:
        document = tomllib.loads(text.decode())
        version = document.get("format_version", RULES_FORMAT)
        if isinstance(version, int):
            check_format(where, version, RULES_FORMAT)
        rules = msgspec.convert(document, Rules)
        for item, window in rules.available.items():
            start, end = window.us()
            if start >= end:
                raise InvalidInput(f"{where}: {item} would never be available: it ends before it begins")
    except (ValueError, RecursionError) as error:  # those of TOML, of text and of msgspec are kinds of the first
        raise InvalidInput(
            f"{where} holds no rules: {error}", remedy="`matinee rules check FILE` says what it understands."
        ) from error
    return rules


class _Mask(NamedTuple):
    begins_us: int
    ends_us: int
    allowed: NDArray[np.bool_]


class _OnBundle:
    """The rules on one bundle's items: the mask of an age and a moment, kept until an availability changes."""

    def __init__(self, rules: Rules, bundle: Bundle) -> None:
        attributes = bundle.attributes
        self._blocked = np.array(_known(rules.blocked, bundle), dtype=np.int64)
        self._limit = _overridden(attributes.age_limit, rules.age_limits, bundle)
        windows = {item: window.us() for item, window in rules.available.items()}
        self._from = _overridden(attributes.available_from_us, {i: us[0] for i, us in windows.items()}, bundle)
        self._until = _overridden(attributes.available_until_us, {i: us[1] for i, us in windows.items()}, bundle)
        self._ages: list[int] = [limit for limit in np.unique(self._limit).tolist() if limit]
        self._changes_us = np.unique(np.concatenate([self._from, self._until]))
        self._masks: dict[int, _Mask] = {}
        self._unknown_age = rules.unknown_age
        self.shares = _shares(attributes, rules.most_of_one_genre)
        self.unknown = tuple(sorted(item for item in rules.items if bundle.item_index(item) is None))

    def mask(self, now_us: int, age: int) -> NDArray[np.bool_]:
        """See `LiveRules.mask`."""
        allowed_to = bisect_right(self._ages, age if age >= 0 else self._unknown_age)
        held = self._masks.get(allowed_to)
        if held is None or not held.begins_us <= now_us < held.ends_us:
            held = self._masks[allowed_to] = self._made(now_us, allowed_to)
        return held.allowed

    def _made(self, now_us: int, allowed_to: int) -> _Mask:
        oldest = self._ages[allowed_to - 1] if allowed_to else 0
        allowed = (self._limit <= oldest) & (self._from <= now_us) & (now_us < self._until)
        allowed[self._blocked] = False
        allowed.setflags(write=False)
        after = int(np.searchsorted(self._changes_us, now_us, side="right"))
        begins = int(self._changes_us[after - 1]) if after else ALWAYS_US[0]
        ends = int(self._changes_us[after]) if after < self._changes_us.size else ALWAYS_US[1]
        return _Mask(begins, ends, allowed)


class LiveRules:
    """The rules that hold now. `look` follows the file; the rest may be called from any thread.

    A file that cannot be read leaves the rules before it in force, and is tried again when it has changed. So that
    this holds at a start too, what was taken over is kept beside the file, as `rules.taken.toml`.

    Args:
        path: the file; there need not be one.
        clock: says when rules were taken over.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = Followed(path)
        self._clock = clock
        self._kept = path.with_suffix(".taken.toml")
        self._state: tuple[Rules, dict[str, _OnBundle]] = (Rules(), {})
        self._compiling = threading.Lock()
        self.version = 0
        """Grows with each change of the rules."""
        self.taken_us: int | None = None
        """When the rules were taken over, UTC microseconds; nothing where none ever were."""
        self.refused = 0
        """How many files could not be read."""
        self.why_not = "the rules were not looked for yet"
        """Why the newest file does not hold; empty where it does."""

    @property
    def rules(self) -> Rules:
        """What the file says."""
        return self._state[0]

    @property
    def mixes(self) -> bool:
        """Whether a rule bounds the share of a genre."""
        return bool(self._state[0].most_of_one_genre)

    def look(self) -> None:
        """Take the file over if it has changed. One thread at a time; nothing that the file holds raises."""
        if not self._file.has_changed():
            return
        try:
            text = _text(self._file.path)
            rules = parse_rules(text, str(self._file.path))
        except (MatineeError, OSError) as error:
            if isinstance(error, OSError):
                self._file.forget()
            self._refuse(error)
            return
        self.why_not = ""
        self._take(rules)
        self._keep(text)

    def _take(self, rules: Rules) -> None:
        self.taken_us = self._clock.now_us()
        if self.version == 0 or rules != self.rules:
            self._state = rules, {}
            self.version += 1
            _log.info("rules_taken", version=self.version, blocked=len(rules.blocked), items=len(rules.items))

    def _refuse(self, error: Exception) -> None:
        self.refused += 1
        self.why_not = f"the newest rules were refused: {error}"
        _log.error("rules_refused", error=str(error), remedy=getattr(error, "remedy", ""), stays=self.version)
        if self.version == 0:
            with suppress(MatineeError, OSError):  # where nothing was kept there is no rule
                self._take(parse_rules(self._kept.read_bytes(), str(self._kept)))

    def _keep(self, text: bytes) -> None:
        """Keep the file for a start at which it cannot be read. Every server does; all write the same."""
        try:
            if text != (self._kept.read_bytes() if self._kept.is_file() else b""):
                write_atomically(self._kept, text)
        except OSError as error:
            _log.warning("rules_not_kept", path=str(self._kept), error=str(error))

    def mask(self, bundle: Bundle, *, now_us: int, age: int) -> NDArray[np.bool_]:
        """The items that may be shown, bool, shape (n_items,); read-only, shared.

        Not blocked, available at that moment, and of no age limit above the user's age. It is made once for each
        age limit in the catalogue and kept until the next moment at which an item's availability begins or ends: a
        look-up as a rule, O(n_items) otherwise. A clock that steps back makes it anew.

        Args:
            bundle: whose items.
            now_us: UTC microseconds.
            age: the user's, in years; below 0 where it is not known, which counts as the rules' `unknown_age`.
        """
        return self._on(bundle).mask(now_us, age)

    def most_of_one_genre(self, bundle: Bundle, default: float) -> NDArray[np.float64]:
        """The share of a list's slots that each genre may have, float64, shape (n_genres,): for `rerank.mixed`."""
        shares = self._on(bundle).shares
        return np.where(np.isnan(shares), default, shares)

    def unknown_items(self, bundle: Bundle) -> tuple[str, ...]:
        """Items that a rule names and the bundle does not know, ascending."""
        return self._on(bundle).unknown

    def _on(self, bundle: Bundle) -> _OnBundle:
        rules, by_bundle = self._state
        found = by_bundle.get(bundle.version)
        return self._compiled(rules, by_bundle, bundle) if found is None else found

    def _compiled(self, rules: Rules, by_bundle: dict[str, _OnBundle], bundle: Bundle) -> _OnBundle:
        made = _OnBundle(rules, bundle)
        with self._compiling:
            while len(by_bundle) >= BUNDLES_KEPT:
                del by_bundle[next(iter(by_bundle))]
            by_bundle[bundle.version] = made
        if made.unknown:
            _log.warning("rules_unknown_items", bundle=bundle.version, count=len(made.unknown),
                         items=made.unknown[:10])  # fmt: skip
        return made


def _known(items: Iterable[str], bundle: Bundle) -> list[int]:
    return [index for item in items if (index := bundle.item_index(item)) is not None]


def _overridden(values: NDArray[Any], instead: Mapping[str, int], bundle: Bundle) -> NDArray[Any]:
    """The values with those of some items replaced."""
    result = values.copy()
    for item, value in instead.items():
        index = bundle.item_index(item)
        if index is not None:
            result[index] = value
    return result


def _shares(attributes: ItemAttributes, shares: Mapping[str, float]) -> NDArray[np.float64]:
    """By genre; NaN where the rules say nothing."""
    by_name = {name.casefold(): share for name, share in shares.items()}
    return np.array([by_name.get(genre.casefold(), np.nan) for genre in attributes.genres], dtype=np.float64)


def _us(moment: object) -> int:
    """UTC microseconds of a moment; a day begins at midnight UTC, and a time without a zone is UTC."""
    if not isinstance(moment, date):
        raise ValueError(f"{moment!r} is no date, such as 2026-12-24, and no date with a time")  # noqa: TRY004
    found = moment if isinstance(moment, datetime) else datetime.combine(moment, time())
    aware = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def _text(path: Path) -> bytes:
    """What the file says; nothing where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
