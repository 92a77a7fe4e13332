"""The fast paths: whole batches of well-formed lines by column operations.

They only ever recognise. A row that they do not take, for whatever reason, is left to the plain reader, so
nothing here has to say why; it has to be right about what it takes.
"""

import polars as pl

from matinee.core.ids import MAX_ID_LENGTH
from matinee.events import grammar
from matinee.events.envelope import ENVELOPE_FORMAT, KEY_PRODUCER, MAX_RECORD_BYTES
from matinee.events.lines import LINE_ENDS, dedup_key
from matinee.events.reading import Repair
from matinee.events.rows import complete
from matinee.events.schema import Outcome
from matinee.events.times import times_to_us
from matinee.events.types import LAST_US, MAX_AHEAD_US, MAX_MINUTE

_MOVIE = f"^{grammar.MOVIE}$"
_TIME = (
    r"(?P<at>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-5][0-9])"
    r"(?::(?P<second>[0-5][0-9])(?:\.(?P<fraction>[0-9]{1,9}))?)?"
)
# In these two each character decides alone how the match goes on ("one-pass"), which makes captures twice as
# fast; so movies are looked at more closely afterwards.
_REQUEST = (
    rf"^{_TIME},(?P<user>{grammar.USER}),GET /(?:"
    rf"data/m/(?P<watched>{grammar.MOVIE_CHARACTER}+)/(?P<minute>{grammar.MINUTE})\.mpg"
    rf"|rate/(?P<rated>{grammar.MOVIE_CHARACTER}+)=(?P<rating>{grammar.RATING}))$"
)
_ANSWER = (
    rf"^{_TIME},(?P<user>{grammar.USER}),{grammar.RECEIVED_FORM}"
    r"(?P<host>[^, ]+), status (?P<status>2[0-9][0-9]), result: (?P<result>[a-z0-9*+_., -]+)$"
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
    text = _decoded(raw).str.strip_chars_end(LINE_ENDS)
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


def _decoded(raw: pl.Series) -> pl.Series:
    try:
        return raw.cast(pl.String)
    except pl.exceptions.ComputeError:  # somewhere in the batch; the cast refuses all of it, strict or not
        return pl.Series([_text(value) for value in raw.to_list()], dtype=pl.String)


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


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
        pl.col("payload").is_not_null(),
        pl.col("kind") == "line",
        pl.col("received").str.contains("^[0-9]{1,18}$"),
        ~pl.col("producer").str.starts_with(KEY_PRODUCER),
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
    taken = fields.filter(_is_movie(pl.col("item")), pl.col("minute").is_null() | (pl.col("minute") <= MAX_MINUTE))
    return _rows(taken, timezone)


def read_answers(lines: pl.DataFrame, timezone: str) -> tuple[pl.Series, pl.DataFrame]:
    """The caller's lines about answers that it got (not those that failed), like `read_requests`."""
    parts = pl.col("result").str.strip_suffix(" ms").str.split(", ")
    items = parts.list.head(parts.list.len() - 1)
    fields = _matches(lines, _ANSWER).with_columns(
        # An empty answer is either nothing or an empty text before the milliseconds.
        pl.when(items.list.join(",") == "").then(pl.lit([], pl.List(pl.String))).otherwise(items).alias("items"),
        parts.list.last().alias("latency_ms"),
        pl.col("status").cast(pl.Int32),
        pl.lit("received").alias("kind"),
    )
    taken = fields.filter(
        pl.col("host").str.contains(f"^{grammar.HOST}$"),
        pl.col("result").str.ends_with(" ms"),
        pl.col("latency_ms").str.contains(f"^{grammar.MILLISECONDS}$"),
        pl.col("items").list.eval(_is_movie(pl.element())).list.all(),
    )
    return _rows(taken.with_columns(pl.col("latency_ms").cast(pl.Float64)), timezone)


def _is_movie(item: pl.Expr) -> pl.Expr:
    return item.str.contains(_MOVIE) & (item.str.len_bytes() <= MAX_ID_LENGTH)


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
    content = lines["payload"]
    if lines["event_id"].null_count() < len(lines):
        content = lines.select(pl.coalesce(pl.lit("id:") + pl.col("event_id"), "payload")).to_series()
    return pl.Series("dedup_key", list(map(dedup_key, content.cast(pl.Binary).to_list())), dtype=pl.Binary)
