"""Repairs: those that are certain are made, the others are not."""

from string import ascii_letters

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.clock import SECOND
from matinee.events import repair
from matinee.events.lines import read_line
from matinee.events.reading import Reading
from matinee.events.schema import Outcome, Reason

NOON = 1_668_427_200 * SECOND
LINES = [
    "2022-11-14T12:00:05,671040,GET /data/m/the+godfather+1972/117.mpg",
    "2022-11-14T12:00:05.202,7,GET /data/m/endeavour+/3.mpg",
    "2022-11-14T12:00,671040,GET /rate/m*a*s*h+1970=4",
    "2022-11-14T12:00:05.2,7,recommendation request h.example:8082, status 200, result: up+2009, heat+1995, 102 ms",
    "2022-11-14T12:00:05.2,7,recommendation request h.example:8082, status 0, result: a.B: timeout after 800 ms",
]


def read(line: str) -> Reading:
    return read_line(line.encode(), appended_us=NOON)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("2022-11-1 4T12:23:14,7,GET /data/m/up+2009/74.mpg", "2022-11-14T12:23:14,7,GET /data/m/up+2009/74.mpg"),
        ("2022-11-14T1O2:23:16,7,GET /data/m/up+2009/97.mpg", "2022-11-14T12:23:16,7,GET /data/m/up+2009/97.mpg"),
        ("2022-11-14T12:23:16,N7,GET /data/m/up+2009/97.mpg", "2022-11-14T12:23:16,7,GET /data/m/up+2009/97.mpg"),
        ("2022-11-14T12:23:16,7,GZET /data/m/up+2009/97.mpg", "2022-11-14T12:23:16,7,GET /data/m/up+2009/97.mpg"),
        ("2022-11-14T12:23:16,7,GET /data/5m/up+2009/97.mpg", "2022-11-14T12:23:16,7,GET /data/m/up+2009/97.mpg"),
        ("2022-11-14T12:23:16,7,GET /data/m/up+2009/97.Hmpg", "2022-11-14T12:23:16,7,GET /data/m/up+2009/97.mpg"),
        ("2022-11-14T12:23:16,7,GET /data/m/up+l2009/97.mpg", "2022-11-14T12:23:16,7,GET /data/m/up+2009/97.mpg"),
        ("2022-11-14T12:23:16,7,GET /data/m/uZp+2009/97.mpg", "2022-11-14T12:23:16,7,GET /data/m/up+2009/97.mpg"),
        (
            "2022-11-14T12:23:16,7,GET /data/m/endeavour +/7.mpg",
            "2022-11-14T12:23:16,7,GET /data/m/endeavour+/7.mpg",
        ),
        ("2022-11-14T12:23:16,7,GET /rate/up+2009= 4", "2022-11-14T12:23:16,7,GET /rate/up+2009=4"),
        (LINES[3].replace(", heat", ",  heat"), LINES[3]),
    ],
)
def test_one_stray_character_is_taken_out(line, meant):
    reading = read(line)
    assert (reading.outcome, reading.repairs, reading.raw) == (Outcome.REPAIRED, ("stray",), line.encode())
    assert reading.event == read(meant).event


def test_a_time_without_seconds_and_a_stray_character():
    reading = read("2022-11-14T12: 00,7,GET /rate/up+2009=4")
    assert reading.repairs == ("seconds", "stray")
    assert reading.event.time_us == NOON


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2022-11-14T12:00:05,7,GET /rate/up+2009=15", Reason.BAD_RATING),
        ("2022-11-14T12:00:05,7,GET /rate/up+2009=D4", Reason.BAD_RATING),
        ("2022-11-14T12:00:05,7,GET /rate/up+2009=4D", Reason.BAD_RATING),
        ("2022-11-14T12:00:05,7,GET /data/m/up+2009/1500.mpg", Reason.BAD_MINUTE),
        ("2022-11-14T12:00:05,1234567890123456789,GET /rate/up+2009=4", Reason.BAD_USER_ID),
        ("2022-11-144T12:00:05,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T12:00:05.1234567891,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14 12:00:05,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T12:00:05Z,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T12:00Z,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T12:00:05,7,GET /data/m/Inception+2010/9.mpg", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GET /data/m/the+Godfather+1972/9.mpg", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GET /data/m/jurassic+p/9.mpg", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GET /rate/jurassic+p=4", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GET /data/m/the+godfather+19722/9.mpg", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GET /data/m/a b c+1972/9.mpg", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GxET /data/m/a b+1972/9.mpg", Reason.UNKNOWN_FORM),
        (LINES[3].replace("heat+1995", "jurassic+p"), Reason.BAD_ITEM_ID),
        (LINES[3].replace("heat+1995", "Heat+1995"), Reason.BAD_ITEM_ID),
    ],
)
def test_what_is_not_certain_is_not_repaired(line, reason):
    reading = read(line)
    assert (reading.outcome, reading.reason) == (Outcome.QUARANTINED, reason)


def test_several_candidates_are_not_repaired(monkeypatch):
    """`aA`: were both one-letter titles readable, either could be the stray."""
    line = "2022-11-14T12:00:05,7,GET /data/m/xQy/9.mpg"
    assert repair.without_stray(line, "UTC") is None
    readable = {line.replace("Q", ""), line.replace("x", "")}
    template = repair.parse_line(LINES[0], "UTC")
    monkeypatch.setattr(repair, "_parsed", lambda text, timezone: template if text in readable else None)
    monkeypatch.setattr(repair, "_READABLE", repair.re.compile(r"(?P<time>[^,]*),.*"))
    assert repair.without_stray(line, "UTC") is None
    readable.pop()
    assert repair.without_stray(line, "UTC") is template


@given(st.sampled_from(LINES), st.sampled_from(" " + ascii_letters), st.data())
def test_an_inserted_character_is_taken_out_or_read_or_quarantined_but_never_another(line, stray, data):
    position = data.draw(st.integers(0, len(line)))
    reading = read(line[:position] + stray + line[position:])
    if "stray" in reading.repairs:
        assert reading.event == read(line).event


@given(st.sampled_from(LINES[:4]), st.data())
def test_a_space_inserted_outside_free_text_is_always_taken_out(line, data):
    position = data.draw(st.integers(0, len(line)))
    assert read(line[:position] + " " + line[position:]).event == read(line).event


@given(st.sampled_from(LINES), st.text(" xQ7,+/=.", max_size=3), st.data())
def test_only_the_first_unsound_field_needs_looking_at(line, noise, data):
    """The window is an optimisation: looking everywhere finds no other readable line."""
    position = data.draw(st.integers(0, len(line)))
    dirty = line[:position] + noise + line[position + data.draw(st.integers(0, 3)) :]
    reading = read(dirty)
    if reading.outcome is Outcome.QUARANTINED or "stray" in reading.repairs:
        deletions = {dirty[:at] + dirty[at + 1 :] for at, c in enumerate(dirty) if c == " " or c in ascii_letters}
        readable = {text for text in deletions if repair._parsed(text, "UTC")}
        if "stray" in reading.repairs and readable:
            assert len(readable) == 1
            assert reading.event == read(readable.pop()).event


def test_a_hostile_line_is_given_up_early():
    line = LINES[3].replace("up+2009", ", ".join(["up+2009"] * 1_000) + ", Q")
    assert len(line) > repair.MAX_REPAIRED_LENGTH
    assert read(line).reason is Reason.BAD_ITEM_ID
