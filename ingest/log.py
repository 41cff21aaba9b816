"""The log between gateway and writer, as a port: durable, ordered, read by offset.

A topic has a fixed number of partitions. Within one partition, offsets grow by one for each record
and are never used twice, not even after retention, a restart or a repair (which may leave a gap).
Only a log that lost acknowledged records uses offsets again: their records then have another epoch.
The adapters are held to this contract by the same tests.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from shared.errors import TelemetryFlowError

Headers = tuple[tuple[str, bytes], ...]

# Of one read of `records_between`: what is held in memory.
_READ_RECORDS_MAX: Final = 1_000
_READ_BYTES_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One durable record; `timestamp_ms` is the log's clock (Unix) when it took the record.

    `epoch` grows when another leader takes over the partition.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes
    headers: Headers
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """What a group has committed: the offset of the next record to read, and its note on it."""

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything ever appended to one partition; `rows` sums the header "n" of the records."""

    records: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one group has not committed yet of one topic; all zero when it is up to date.

    `rows` and `bytes` are None where the log does not count them.
    """

    records: int
    rows: int | None
    bytes: int | None
    age_seconds: float


class LostPartition(TelemetryFlowError):
    """Another process writes the partition by now: this one must leave it alone."""


class Lease(Protocol):
    """One tenure of a partition: from the moment it was given to this process until it is gone.

    A partition that goes and comes back has another lease, so that nobody goes on where he was.
    """

    @property
    def lost(self) -> bool:
        """Whether the tenure is over, for good."""
        ...

    def held(self) -> bool:
        """Whether nobody else can have been given the partition yet (I10)."""
        ...


class EndlessLease:
    """The lease of a log with one writer."""

    lost = False

    def held(self) -> bool:
        """Always."""
        return True


class Assignment(Protocol):
    """Which partitions this process writes; several processes share a group."""

    def assigned(self) -> frozenset[tuple[str, int]]:
        """The topics and partitions to write."""
        ...

    def revoked(self) -> frozenset[tuple[str, int]]:
        """What is held and no longer assigned: others wait for its `release`."""
        ...

    def lease(self, topic: str, partition: int) -> Lease:
        """The present tenure of an assigned partition; of others, one that is over."""
        ...

    async def changed(self) -> None:
        """Wait until `assigned` may have changed; raises what ended the membership for good."""
        ...

    def release(self, places: Iterable[tuple[str, int]]) -> None:
        """Nothing is under way any more for *places*: others may be given them."""
        ...

    async def close(self) -> None:
        """Leave the group."""
        ...


class TelemetryLog(Protocol):
    """The port. Every method may raise Unavailable (retry later); unknown partitions are Invalid.

    One object belongs to one event loop; several processes may open the same log.
    """

    @property
    def identity(self) -> str:
        """Id of this log's incarnation: a log that was made anew or repaired has another.

        It goes into insert tokens, so that equal offsets of two incarnations never collide.
        """
        ...

    async def append(self, topic: str, partition: int, value: bytes, headers: Headers) -> int:
        """Returns the record's offset once it is durable.

        Raises Unavailable when it cannot be made durable (disk full, damage, closing), TooLarge
        when this log could never take a value of this size. A cancelled call may have appended.
        """
        ...

    async def append_many(
        self, topic: str, partition: int, records: Sequence[tuple[bytes, Headers]]
    ) -> list[int]:
        """Appends all of *records*, contiguously and in order, or none of them.

        Records that are together larger than the log takes at once go one by one, in order: a
        failure may then leave the first of them. The offset is -1 where nobody knows it any more.
        """
        ...

    def trouble(self) -> str | None:
        """Why appends are refused or held up now, None when they are not."""
        ...

    def held_up(self, topic: str, partition: int) -> str | None:
        """Why an append to the partition would be refused now without a try, else None."""
        ...

    async def read(
        self,
        topic: str,
        partition: int,
        from_offset: int,
        *,
        records_max: int,
        bytes_max: int,
        wait_seconds: float,
    ) -> list[Record]:
        """Records at or behind *from_offset*, in order: at least one if there is any.

        Waits up to *wait_seconds* for the first; an empty list says that none came. The sum of the
        values stays within *bytes_max* unless the first alone is larger. A record that is damaged,
        or was deleted by retention, is left out: read on behind the last offset returned.
        """
        ...

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is retained, and the one that the next record will get."""
        ...

    async def epoch_end(self, topic: str, partition: int, epoch: int) -> int | None:
        """The offset behind the last record of *epoch* or before; None when it is unknown."""
        ...

    async def incarnation(self, topic: str) -> str:
        """Id of *topic*: one that was deleted and made anew has another, one repaired has not."""
        ...

    async def partitions(self, topic: str) -> int:
        """Number of partitions of *topic*; it never changes."""
        ...

    async def join(self, group: str, topics: Sequence[str]) -> Assignment:
        """Become one of the processes that share the partitions of *topics* as *group*."""
        ...

    async def commit(
        self, group: str, topic: str, partition: int, offset: int, metadata: str = ""
    ) -> None:
        """Durably notes that *group* will go on at *offset*; the last call wins, back or forth.

        After `join`, only for partitions that are held: raises LostPartition for others.
        """
        ...

    async def committed(self, group: str, topic: str, partition: int) -> Committed | None:
        """What was last committed, None if nothing ever was."""
        ...

    async def backlog(self, group: str, topic: str) -> Backlog:
        """What *group* has not committed yet, over all partitions of *topic*."""
        ...

    async def close(self) -> None:
        """Refuses what comes, finishes what is under way, releases the log. Safe to repeat."""
        ...


@runtime_checkable
class CountingLog(TelemetryLog, Protocol):
    """A log that also keeps count, so that appended = stored + dead + in flight can be checked."""

    async def totals(self, topic: str, partition: int) -> Totals:
        """Everything ever appended to the partition, whatever was deleted since."""
        ...


class WholeLog:
    """The assignment of a log with one writer: all partitions, for ever."""

    def __init__(self, places: Iterable[tuple[str, int]]) -> None:
        self._places = frozenset(places)

    def assigned(self) -> frozenset[tuple[str, int]]:
        """All partitions."""
        return self._places

    def revoked(self) -> frozenset[tuple[str, int]]:
        """Nothing, ever."""
        return frozenset()

    def lease(self, topic: str, partition: int) -> EndlessLease:  # noqa: ARG002
        """One without an end."""
        return EndlessLease()

    async def changed(self) -> None:
        """Never returns."""
        await asyncio.Event().wait()

    def release(self, places: Iterable[tuple[str, int]]) -> None:
        """Gives up *places* for good."""
        self._places -= frozenset(places)

    async def close(self) -> None:
        """There is no group to leave."""


async def records_between(
    log: TelemetryLog, topic: str, partition: int, start: int, end: int
) -> AsyncIterator[Record]:
    """The records at offsets start <= offset < end that the log shows, in order."""
    while start < end:
        found = await log.read(
            topic,
            partition,
            start,
            records_max=min(end - start, _READ_RECORDS_MAX),
            bytes_max=_READ_BYTES_MAX,
            wait_seconds=0,
        )
        if not found:
            return
        for record in found:
            if record.offset < end:
                yield record
        start = found[-1].offset + 1
