"""The queue in shared memory, against a list; and what another process sees of it at any moment."""

import errno
import mmap
import os
from collections import deque

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from matinee.serving import record_queue
from matinee.serving.record_queue import RecordQueue, Ring, taken

CAPACITY = 40
BYTES = 240


def small() -> RecordQueue:
    """A queue whose ring comes to its end every few blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_queue, "LEAST_BYTES", BYTES)
        patch.setattr(record_queue, "RECORD_BYTES", 1)
        return RecordQueue(CAPACITY)


def room(block: list[bytes]) -> int:
    """Bytes that a block takes in the ring."""
    return taken(len(msgspec.msgpack.encode(block)))


class QueueMachine(RuleBasedStateMachine):
    """A queue beside a list of blocks."""

    def __init__(self):
        super().__init__()
        self.queue, self.blocks = small(), deque[list[bytes]]()

    @property
    def records(self) -> list[bytes]:
        return [record for block in self.blocks for record in block]

    @rule(block=st.lists(st.binary(max_size=30), min_size=1, max_size=4))
    def put(self, block: list[bytes]):
        sizes = [room(waiting) for waiting in self.blocks]
        full = len(self.records) + len(block) > CAPACITY
        if self.queue.put(block):
            self.blocks.append(block)
            assert not full
            assert sum(sizes) + room(block) <= self.queue.ring.size
        else:
            # Left empty at the end of the ring: less than the block that did not fit there, both times round.
            assert full or sum(sizes) + max(sizes, default=0) + 2 * room(block) > self.queue.ring.size

    @rule(n=st.integers(1, CAPACITY))
    def release(self, n: int):
        batch = self.queue.first(n)
        records = batch.records()
        assert records == self.records[: batch.n]
        assert batch.n <= n or batch.n == len(self.blocks[0])
        assert batch.n or not self.blocks
        self.queue.release(batch)
        left = batch.n
        while left:
            left -= len(self.blocks.popleft())

    @rule()
    def clear(self):
        self.queue.clear()
        self.blocks.clear()

    @invariant()
    def another_process_sees_what_waits(self):
        ring = self.queue.ring
        seen = [records for _, records in ring.blocks(ring.released_until, ring.put_until)]
        assert seen == list(self.blocks)
        assert self.queue.waiting == len(self.records)


TestQueue = QueueMachine.TestCase


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4))
def test_an_empty_queue_takes_any_block_that_its_ring_can_hold(block: list[bytes]):
    queue = small()
    for _ in range(9):
        assert queue.put(block)
        batch = queue.first(CAPACITY)
        assert batch.records() == block
        queue.release(batch)


def test_a_block_that_no_ring_can_hold_is_refused_and_leaves_the_rest():
    queue = small()
    assert queue.put([b"small"])
    assert not queue.put([bytes(2 * BYTES)])
    assert queue.first(CAPACITY).records() == [b"small"]


@pytest.mark.skipif(not hasattr(mmap, "MADV_REMOVE"), reason="this system cannot make holes in memory")
def test_memory_that_a_long_queue_took_is_given_back_and_can_be_taken_again():
    queue, record = RecordQueue(20_000), bytes(range(250)) * 4

    def held() -> int:
        return os.fstat(queue.ring.file).st_blocks * 512

    def write_all() -> None:
        while (batch := queue.first(500)).n:
            assert set(batch.records()) == {record}
            queue.release(batch)

    for _ in range(2):
        while queue.put([record] * 10):
            pass
        assert queue.waiting > 19_000
        assert held() > 19_000_000
        write_all()
        for _ in range(400):
            assert queue.put([record])
            write_all()
        assert held() <= record_queue.KEPT_BYTES + mmap.PAGESIZE


def test_where_memory_cannot_be_given_back_it_is_kept_and_records_are_taken(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "locked")

    monkeypatch.setattr(Ring, "forget", refuse)
    queue = RecordQueue(20_000)
    for _ in range(2):
        while queue.put([bytes(1_000)] * 10):
            pass
        queue.release(queue.first(queue.waiting))
    assert queue.put([b"taken"])
    assert queue.first(1).records() == [b"taken"]


def test_the_memory_is_the_same_through_its_descriptor():
    queue = RecordQueue(10)
    queue.put([b"one", b"two"])
    queue.put([b"three"])
    other = Ring(os.dup(queue.ring.file))
    assert [records for _, records in other.blocks(other.released_until, other.put_until)] == [
        [b"one", b"two"],
        [b"three"],
    ]


def test_a_block_that_was_being_put_when_its_process_died_is_not_seen():
    queue = RecordQueue(10)
    queue.put([b"whole"])
    ring, until = queue.ring, queue.ring.put_until
    ring.write(until, b"half of a block")  # and it never came to saying so
    assert [records for _, records in ring.blocks(ring.released_until, ring.put_until)] == [[b"whole"]]


def test_without_memory_that_can_be_shared_a_file_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(record_queue.os, "memfd_create")
    queue = RecordQueue(10)
    queue.put([b"one"])
    assert queue.first(1).records() == [b"one"]
