"""How the bundle's numbers are told to people: titles and times."""

from datetime import UTC, datetime, timedelta

from matinee.bundle.open import Bundle

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def title_of(bundle: Bundle, item: str) -> str | None:
    """The title of an item, where it is known."""
    index = bundle.item_index(item)
    return None if index is None else bundle.attributes.titles[index] or None


def moment(time_us: int) -> datetime | None:
    """UTC microseconds as a time; nothing where that is beyond the years 1 to 9999, as the ends of what is open."""
    try:
        return _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return None
