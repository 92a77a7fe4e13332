"""The log against a plain list: whatever is appended, trimmed, read and reopened, positions are never reused."""

import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from matinee.core.clock import ManualClock
from matinee.log import sqlite
from matinee.log.sqlite import SqliteLog


class LogAgainstList(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.log = self._open()
        self.reader = self.log.reader(lambda p: 0)
        self.kept: dict[int, bytes] = {}
        self.highest = 0
        self.read_below = 0

    def _open(self) -> SqliteLog:
        return SqliteLog(Path(self.folder.name) / "log.sqlite", ManualClock())

    @rule(values=st.lists(st.binary(max_size=20), min_size=1, max_size=8))
    def append(self, values):
        last = self.log.append(values)
        assert last == self.highest + len(values)  # neither reused nor skipped
        self.kept.update(zip(range(self.highest + 1, last + 1), values, strict=True))
        self.highest = last

    @rule(back=st.integers(-2, 12), step=st.integers(1, 5))
    def trim(self, back, step):
        before = self.highest + 1 - back
        gone = [position for position in self.kept if position < before]
        with mock.patch.object(sqlite, "TRIM_STEP", step):
            assert self.log.trim({0: before}) == len(gone)
        for position in gone:
            del self.kept[position]

    @rule(most=st.integers(1, 6))
    def read_on(self, most):
        expected = sorted(position for position in self.kept if position >= self.read_below)[:most]
        batches = self.reader.poll(max_records=most, timeout=0)
        found = batches[0].positions.tolist() if batches else []
        assert found == expected
        if found:
            assert batches[0].values == [self.kept[position] for position in found]
            self.read_below = found[-1] + 1

    @rule()
    def reopen(self):
        self.reader.close()
        self.log.close()
        self.log = self._open()
        self.reader = self.log.reader(lambda p: self.read_below)

    @invariant()
    def end_follows_the_last_position_ever_given(self):
        assert self.log.ends() == {0: self.highest + 1}

    def teardown(self):
        self.reader.close()
        self.log.close()
        self.folder.cleanup()


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
