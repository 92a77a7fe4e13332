"""Segments of users: age band and gender, for answers to those of whom nothing else is known."""

import polars as pl

UNKNOWN = "unknown"
OLDEST = 120
"""Years; an age above it is not one."""

_BANDS = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (OLDEST + 1, "55+"))
_GENDERS = {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M"}
_OTHER_GENDER = "other"


def _all_segments() -> list[str]:
    ages = [*(band for _, band in _BANDS), UNKNOWN]
    genders = ["F", "M", _OTHER_GENDER, UNKNOWN]
    both = [f"{age}, {gender}" for age in ages for gender in genders if (age, gender) != (UNKNOWN, UNKNOWN)]
    return [UNKNOWN, *both]


SEGMENTS = tuple(_all_segments())
"""Every segment, always the same: `unknown` first, then `<age band>, <gender>`, either of which may be unknown."""


def segment_of(age: str = "age", gender: str = "gender") -> pl.Expr:
    """The index in `SEGMENTS` of a row with columns of age (years) and gender, as Int16.

    An age below 1 or above 120 is unknown. Genders are F, M (or spelt out, in any case), other, and unknown where
    there is no text. MovieLens 1M gives the first year of its own bands, which fall into ours.
    """
    years = pl.col(age)
    band = pl.when(years.is_between(1, OLDEST)).then(
        pl.coalesce(
            *(pl.when(years < below).then(pl.lit(name)) for below, name in _BANDS),
        )
    )
    text = pl.col(gender).str.strip_chars().str.to_uppercase()
    known = (
        pl.when(text.is_null() | (text == ""))
        .then(pl.lit(UNKNOWN))
        .otherwise(text.replace_strict(_GENDERS, default=_OTHER_GENDER))
    )
    both = pl.concat_str(band.fill_null(UNKNOWN), known, separator=", ")
    name = pl.when(both == f"{UNKNOWN}, {UNKNOWN}").then(pl.lit(UNKNOWN)).otherwise(both)
    return name.cast(pl.Enum(SEGMENTS)).to_physical().cast(pl.Int16).alias("segment")
