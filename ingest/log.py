"""The log between gateway and writer, as a port: durable, ordered, read by offset.

A topic has a fixed number of partitions. Within one partition, offsets grow by one for each record
and are never used twice, not even after retention, a restart or a repair (which may leave a gap).
The adapters are held to this contract by the same tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One durable record; `timestamp_ms` is the log's clock (Unix) when it took the record."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes
    headers: Headers


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
    """What one group has not committed yet of one topic; all zero when it is up to date."""

    records: int
    rows: int
    bytes: int
    age_seconds: float


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
        """Appends all of *records*, contiguously and in order, or none of them."""
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

    async def partitions(self, topic: str) -> int:
        """Number of partitions of *topic*; it never changes."""
        ...

    async def commit(
        self, group: str, topic: str, partition: int, offset: int, metadata: str = ""
    ) -> None:
        """Durably notes that *group* will go on at *offset*; the last call wins, back or forth."""
        ...

    async def committed(self, group: str, topic: str, partition: int) -> Committed | None:
        """What was last committed, None if nothing ever was."""
        ...

    async def close(self) -> None:
        """Refuses what comes, finishes what is under way, releases the log. Safe to repeat."""
        ...


class CountingLog(TelemetryLog, Protocol):
    """A log that also keeps count, so that appended = stored + dead + in flight can be checked."""

    async def totals(self, topic: str, partition: int) -> Totals:
        """Everything ever appended to the partition, whatever was deleted since."""
        ...

    async def backlog(self, group: str, topic: str) -> Backlog:
        """What *group* has not committed yet, over all partitions of *topic*."""
        ...
