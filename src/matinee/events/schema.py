"""The frame that reading a batch of records gives: one row per record, in the records' order.

Columns that do not apply to a row's kind are null. `raw` is kept wherever the typed columns do not say all
that the record said: quarantined, repaired, or digits past the microsecond.
"""

from enum import StrEnum

import polars as pl


class Outcome(StrEnum):
    """What became of a record. Every record has exactly one; the four add up to what came in."""

    ACCEPTED = "accepted"
    REPAIRED = "repaired"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"


class Reason(StrEnum):
    """Why a record was quarantined."""

    NOT_TEXT = "not_text"
    TOO_LONG = "too_long"
    BAD_ENVELOPE = "bad_envelope"
    FORMAT_TOO_NEW = "format_too_new"
    UNKNOWN_FORM = "unknown_form"
    MISSING_FIELD = "missing_field"
    IMPOSSIBLE_TIME = "impossible_time"
    FUTURE_TIME = "future_time"
    BAD_USER_ID = "bad_user_id"
    BAD_ITEM_ID = "bad_item_id"
    BAD_MINUTE = "bad_minute"
    BAD_RATING = "bad_rating"
    BAD_PAYLOAD = "bad_payload"


TIME = pl.Datetime("us", "UTC")

_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "outcome": pl.Enum([outcome.value for outcome in Outcome]),
    "reason": pl.String,  # a Reason, where quarantined
    "repairs": pl.String,  # names of the repairs, joined by commas, where repaired
    "kind": pl.String,  # watch, rating, received, served; null where quarantined
    "time": TIME,  # null for untimed ratings
    "received_at": TIME,
    "event_id": pl.String,
    "producer": pl.String,
    "dedup_key": pl.Binary,  # xxh3-128 of the event id, else of the payload (`lines`): 16 bytes, never null
    "user": pl.String,
    "item": pl.String,
    "minute": pl.Int32,
    "rating": pl.Float32,
    "items": pl.List(pl.String),  # received, served
    "host": pl.String,  # received
    "status": pl.Int32,  # received
    "error": pl.String,  # received
    "latency_ms": pl.Float64,  # received, served
    "request_id": pl.String,  # served, as are all below but the last
    "model_version": pl.String,
    "arm": pl.String,
    "step": pl.String,
    "scores": pl.List(pl.Float32),
    "propensities": pl.List(pl.Float32),
    "raw": pl.Binary,
}
READ_SCHEMA = pl.Schema(_COLUMNS)
