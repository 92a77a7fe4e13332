"""The fast paths: whole batches of well-formed lines by column operations.

They only ever recognise. A row that they do not take, for whatever reason, is left to the plain reader, so
nothing here has to say why; it has to be right about what it takes.
"""

import polars as pl

from matinee.core.ids import MAX_ID_LENGTH
from matinee.events import grammar
from matinee.events.envelope import ENVELOPE_FORMAT, MAX_RECORD_BYTES
from matinee.events.lines import LINE_ENDS, dedup_key
from matinee.events.reading import LAST_US, Repair
from matinee.events.rows import complete
from matinee.events.schema import Outcome
from matinee.events.times import MAX_AHEAD_US, times_to_us
from matinee.events.types import MAX_MINUTE

_TIME = r"(?P<at>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-5][0-9])(?::(?P<second>[0-5][0-9])(?:\.(?P<fraction>[0-9]{1,9}))?)?"
_REQUEST = (
    rf"^{_TIME},(?P<user>{grammar.USER}),GET /(?:"
    rf"data/m/(?P<watched>{grammar.MOVIE})/(?P<minute>{grammar.MINUTE})\.mpg"
    rf"|rate/(?P<rated>{grammar.MOVIE})=(?P<rating>{grammar.RATING}))$"
)
_ANSWER = (
    rf"^{_TIME},(?P<user>{grammar.USER}),{grammar.RECEIVED_FORM}(?P<host>{grammar.HOST}), status (?P<status>2[0-9]{{2}}), "
    rf"result: (?:(?P<list>{grammar.MOVIE}(?:, {grammar.MOVIE})*), |, )?(?P<latency_ms>{grammar.MILLISECONDS}) ms$"
)
_HEADER = f"m{ENVELOPE_FORMAT}\t"


def unwrap_batch(raw: pl.Series, appended_us: pl.Series) -> pl.DataFrame:
    """The records that carry a line, bare or in an envelope, and are sound text.

    Args:
        raw: Binary, one record a row.
        appended_us: Int64, when the log took each.

    Returns:
        `index` (row in `raw`), `raw`, `payload`, `received_us`, `event_id` and `producer` of each.
    """
    text = raw.cast(pl.String, strict=False).str.strip_chars_end(LINE_ENDS)
    records = (
        pl.DataFrame({"raw": raw, "payload": text, "received_us": appended_us})
        .with_row_index("index")
        .filter(pl.col("raw").bin.size() <= MAX_RECORD_BYTES, pl.col("payload").is_not_null())
    )
    no_text = pl.lit(None, pl.String)
    bare = records.filter(~pl.col("payload").str.starts_with("m")).with_columns(event_id=no_text, producer=no_text)
    wrapped = records.filter(
        pl.col("payload").str.starts_with(_HEADER), ~pl.col("payload").str.contains("\0", literal=True)
    )
    return pl.concat([bare, _without_header(wrapped)]) if len(wrapped) else bare


def _without_header(wrapped: pl.DataFrame) -> pl.DataFrame:
    field = pl.col("payload").str.splitn("\t", 6).struct.field
    split = wrapped.with_columns(
        *(
            field(f"field_{place}").alias(name)
            for place, name in enumerate(("format", "kind", "event_id", "producer"))
        ),
        field("field_4").alias("received"),
        field("field_5").alias("payload"),
    ).filter(
        pl.col("payload").is_not_null(), pl.col("kind") == "line", pl.col("received").str.contains("^[0-9]{1,18}$")
    )
    return (
        split.with_columns(
            pl.col("received").cast(pl.Int64).alias("received_us"),
            *(pl.when(pl.col(name) != "").then(name).alias(name) for name in ("event_id", "producer")),
        )
        .filter(pl.col("received_us") <= LAST_US)
        .select("index", "raw", "payload", "received_us", "event_id", "producer")
    )


def read_requests(lines: pl.DataFrame, timezone: str) -> tuple[pl.Series, pl.DataFrame]:
    """Watches and ratings: their `index` in the batch, and their rows in `READ_SCHEMA`."""
    fields = _matches(lines, _REQUEST).with_columns(
        pl.coalesce("watched", "rated").alias("item"),
        pl.col("minute").cast(pl.Int32),
        pl.col("rating").cast(pl.Float32),
        pl.when(pl.col("minute").is_null()).then(pl.lit("rating")).otherwise(pl.lit("watch")).alias("kind"),
    )
    taken = fields.filter(
        pl.col("item").str.len_bytes() <= MAX_ID_LENGTH,
        pl.col("minute").is_null() | (pl.col("minute") <= MAX_MINUTE),
    )
    return _rows(taken, timezone)


def read_answers(lines: pl.DataFrame, timezone: str) -> tuple[pl.Series, pl.DataFrame]:
    """The caller's lines about answers that it got (not those that failed), like `read_requests`."""
    fields = _matches(lines, _ANSWER).with_columns(
        pl.col("list").str.split(", ").fill_null([]).alias("items"),
        pl.col("status").cast(pl.Int32),
        pl.col("latency_ms").cast(pl.Float64),
        pl.lit("received").alias("kind"),
    )
    longest = pl.col("items").list.eval(pl.element().str.len_bytes()).list.max()
    return _rows(fields.filter(longest.fill_null(0) <= MAX_ID_LENGTH), timezone)


def _matches(lines: pl.DataFrame, pattern: str) -> pl.DataFrame:
    found = lines.with_columns(pl.col("payload").str.extract_groups(pattern).alias("groups")).unnest("groups")
    return found.filter(pl.col("user").is_not_null())


def _rows(fields: pl.DataFrame, timezone: str) -> tuple[pl.Series, pl.DataFrame]:
    time = times_to_us(fields["at"], fields["second"], fields["fraction"], timezone)
    taken = fields.with_columns(time.alias("time")).filter(pl.col("time") <= pl.col("received_us") + MAX_AHEAD_US)
    repaired, cut = pl.col("second").is_null(), (pl.col("fraction").str.len_bytes() > 6).fill_null(value=False)
    outcome = pl.when(repaired).then(pl.lit(Outcome.REPAIRED.value)).otherwise(pl.lit(Outcome.ACCEPTED.value))
    rows = taken.with_columns(
        outcome.alias("outcome"),
        pl.when(repaired).then(pl.lit(Repair.SECONDS.value)).alias("repairs"),
        pl.when(repaired | cut).then("raw").alias("raw"),
        pl.col("received_us").alias("received_at"),
        _dedup_keys(taken),
    )
    return rows["index"], complete(rows)


def _dedup_keys(lines: pl.DataFrame) -> pl.Series:
    content = lines.select(pl.coalesce(pl.lit("id:") + pl.col("event_id"), "payload").cast(pl.Binary)).to_series()
    return pl.Series("dedup_key", [dedup_key(value) for value in content.to_list()], dtype=pl.Binary)
