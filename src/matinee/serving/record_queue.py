"""Records on their way to the log, in memory that a server shares with the process that writes them.

Nothing is copied when they are handed over, so that takes a server no time; and the memory outlives a server that
is killed, so that its writer can still write what waited.

Layout: two words, the positions behind the last record that was put and the last that was released (uint64, bytes
since the queue was made); then a ring of blocks. A block is its length (uint32), MessagePack (an array of records)
and padding to eight bytes. No block goes round the end: length 0 says that the next one is at the beginning.
"""

import mmap
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

RECORD_BYTES = 1_024
"""Room for each record that may wait. A looked-up answer of twenty items takes some 700; those of a hundred share
the room of others."""
LEAST_BYTES = 1 << 20
"""Of a ring, so that it holds a few of the longest records there can be."""
KEPT_BYTES, GIVEN_BACK_BYTES = 1 << 20, 1 << 16
"""Of a ring: what stays in memory when a long queue has been written, and what is given back at once of the rest.

That much takes some 20 µs, which an answer may wait for.
"""

_WORDS = 16
_ALIGN = 8
_LENGTH = 4
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class Ring:
    """The shared memory, as both sides see it.

    Args:
        file: descriptor of it, which is closed with this object.
    """

    def __init__(self, file: int) -> None:
        self.file = file
        weakref.finalize(self, os.close, file)
        self._mapped = mmap.mmap(file, 0)
        memory = memoryview(self._mapped)
        self._words = memory[:_WORDS].cast("Q")  # a word is written at once, or not at all
        self._blocks = memory[_WORDS:]
        self.size = len(self._blocks)

    @property
    def put_until(self) -> int:
        """The position behind the last block."""
        return self._words[0]

    @put_until.setter
    def put_until(self, position: int) -> None:
        self._words[0] = position

    @property
    def released_until(self) -> int:
        """The position of the first block that still waits; none does where `put_until` is not greater."""
        return self._words[1]

    @released_until.setter
    def released_until(self, position: int) -> None:
        self._words[1] = position

    def write(self, position: int, block: bytes) -> None:
        """Put a block at a position; the caller knows that there is room."""
        at = position % self.size
        self._blocks[at : at + _LENGTH] = len(block).to_bytes(_LENGTH, "little")
        self._blocks[at + _LENGTH : at + _LENGTH + len(block)] = block

    def forget(self, start: int, end: int) -> None:
        """Let go of the memory from the first page that begins after `start` to the one that `end` is in.

        It reads as zeros then.

        Raises:
            OSError: what it is mapped from cannot.
        """
        first = -(-(_WORDS + start) // mmap.PAGESIZE) * mmap.PAGESIZE
        if first < _WORDS + end:
            self._mapped.madvise(mmap.MADV_REMOVE, first, _WORDS + end - first)

    def blocks(self, start: int, end: int) -> Iterator[tuple[int, list[bytes]]]:
        """The blocks between two positions: the position behind each, and its records."""
        while start < end:
            at = start % self.size
            length = int.from_bytes(self._blocks[at : at + _LENGTH], "little")
            if not length:
                start += self.size - at
                continue
            start += taken(length)
            yield start, _decode(self._blocks[at + _LENGTH : at + _LENGTH + length])

    def records(self, start: int, end: int) -> list[bytes]:
        """The records between two positions, oldest first."""
        return [record for _, records in self.blocks(start, end) for record in records]


def taken(length: int) -> int:
    """Bytes that a block of that length takes in the ring."""
    return -(-(_LENGTH + length) // _ALIGN) * _ALIGN


@dataclass(frozen=True, slots=True)
class Batch:
    """The records between two positions of a ring."""

    ring: Ring
    start: int
    end: int
    n: int
    """How many there are."""

    def records(self) -> list[bytes]:
        """The records, oldest first."""
        return self.ring.records(self.start, self.end)


class RecordQueue:
    """A bounded queue of records. One thread at a time.

    Args:
        capacity: records that may wait; they may take `RECORD_BYTES` each, taken together.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        file, self._gives_back = _memory(_WORDS + max(LEAST_BYTES, capacity * RECORD_BYTES))
        self.ring = Ring(file)
        self._reached = 0  # the place in the ring behind which no memory is in use
        self._head = self._tail = 0  # as in the ring; these are no business of other processes
        self._blocks: deque[tuple[int, int]] = deque()  # the end of each, and how many records are in it
        self.waiting = 0
        """Records that wait."""

    def put(self, records: Sequence[bytes]) -> bool:
        """Append records, in one block; whether there was room for all. Otherwise none is."""
        if self.waiting + len(records) > self.capacity:
            return False
        block, ring = _encode(records), self.ring
        size, needed = ring.size, taken(len(block))
        if not self.waiting:  # back to the beginning, whose memory is at hand
            self._head = self._tail = ring.released_until = -(-self._head // size) * size
            self._give_back()
        left = size - self._head % size
        skipped = 0 if needed <= left else left
        if self._head + skipped + needed > self._tail + size:
            return False
        if skipped:
            ring.write(self._head, b"")
            self._head += skipped
            self._reached = size
        ring.write(self._head, block)
        self._reached = max(self._reached, self._head % size + needed)
        self._head += needed
        ring.put_until = self._head  # last: whatever is before it is whole
        self._blocks.append((self._head, len(records)))
        self.waiting += len(records)
        return True

    def first(self, n: int) -> Batch:
        """The oldest records, at most n of them or one block; they stay."""
        end, count = self._tail, 0
        for block_end, held in self._blocks:
            if count and count + held > n:
                break
            end, count = block_end, count + held
        return Batch(self.ring, self._tail, end, count)

    def release(self, batch: Batch) -> None:
        """Forget the records of a batch, which must be the oldest."""
        while self._blocks and self._blocks[0][0] <= batch.end:
            self.waiting -= self._blocks.popleft()[1]
        self._tail = self.ring.released_until = batch.end

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self.waiting = 0
        self._tail = self.ring.released_until = self._head

    def _give_back(self) -> None:
        """Return memory that only a long queue needed, a little at a time. Only where nothing waits."""
        if self._gives_back and self._reached > KEPT_BYTES:
            start = max(KEPT_BYTES, self._reached - GIVEN_BACK_BYTES)
            try:
                self.ring.forget(start, self._reached)
            except OSError:  # memory that was locked, or a sandbox: then it is kept
                self._gives_back = False
            self._reached = start


def _memory(size: int) -> tuple[int, bool]:
    """A file that is only in memory, and that it may have holes.

    Where the system has none, one that has no name and all of its disk blocks, which it must keep: a map of a file
    kills who writes into it when the disk is full.
    """
    with suppress(AttributeError, OSError):
        file = os.memfd_create("matinee-telemetry", os.MFD_CLOEXEC)
        os.ftruncate(file, size)
        return file, True
    with tempfile.TemporaryFile() as stored:
        stored.write(bytes(size))
        stored.flush()
        return os.dup(stored.fileno()), False
