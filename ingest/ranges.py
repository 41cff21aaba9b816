"""Which records make one plan: as many as the limits allow, none held back for too long."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic, time
from typing import Final

from ingest.log import Record, TelemetryLog
from ingest.plans import OFFSETS_PER_PLAN_MAX, NewerRelease, is_newer
from ingest.records import rows_of

READ_RECORDS_MAX: Final = 1_000
# How long one look at an empty partition waits.
IDLE_SECONDS: Final = 1.0
# Looks at a partition that has some records but not enough: each costs a query.
LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a plan is closed: rows, compressed bytes, and age of its oldest record."""

    rows_max: int
    bytes_max: int
    wait_ms: int


class Ranges:
    """Reads the records of plans from one partition."""

    def __init__(
        self,
        log: TelemetryLog,
        topic: str,
        partition: int,
        *,
        limits: BatchLimits,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._log = log
        self._topic = topic
        self._partition = partition
        self._limits = limits
        self._sleep = sleep

    async def next_records(self, offset: int) -> list[Record]:
        """The records at or behind *offset* that belong into one plan; empty when none came.

        Raises NewerRelease when the next record must be left to a newer release.
        """
        records = await self._read(offset, self._limits.bytes_max, IDLE_SECONDS)
        if not records:
            return []
        # The wall clock is asked once: it may jump while this waits.
        age = max(0.0, time() - records[0].timestamp_ms / 1000)
        age_end = monotonic() + self._limits.wait_ms / 1000 - age
        while not self._full(records):
            left = age_end - monotonic()
            bytes_left = self._limits.bytes_max - _bytes(records)
            more = await self._read(records[-1].offset + 1, bytes_left, 0.0)
            records += more
            if more and left <= 0:
                continue  # an old backlog: take what is there, it makes larger inserts
            if left <= 0:
                break
            await self._sleep(min(left, LOOK_SECONDS))
        return self._within_limits(records)

    async def planned_records(self, start: int, end: int) -> list[Record]:
        """The records of a plan that was made before: exactly those from *start* to *end*."""
        records: list[Record] = []
        while start <= end:
            found = await self._read(start, self._limits.bytes_max, 0.0)
            if not found:
                break
            records += [record for record in found if record.offset <= end]
            start = found[-1].offset + 1
        return records

    async def _read(self, offset: int, bytes_max: int, wait_seconds: float) -> list[Record]:
        return await self._log.read(
            self._topic,
            self._partition,
            offset,
            records_max=READ_RECORDS_MAX,
            bytes_max=bytes_max,
            wait_seconds=wait_seconds,
        )

    def _full(self, records: list[Record]) -> bool:
        return (
            _rows(records) >= self._limits.rows_max
            or _bytes(records) >= self._limits.bytes_max
            or records[-1].offset - records[0].offset >= OFFSETS_PER_PLAN_MAX
        )

    def _within_limits(self, records: list[Record]) -> list[Record]:
        """The first of *records* up to the limits, at least one."""
        first = records[0]
        if is_newer(first):
            raise NewerRelease(
                f"record {first.offset} of {first.topic}/{first.partition} was written by a newer "
                "release: update the writer"
            )
        rows = size = 0
        for count, record in enumerate(records):
            rows += rows_of(record.headers)
            size += len(record.value)
            over = (
                rows > self._limits.rows_max
                or size > self._limits.bytes_max
                or record.offset - first.offset >= OFFSETS_PER_PLAN_MAX
                or is_newer(record)
            )
            if over and count:
                return records[:count]
        return records


def _rows(records: list[Record]) -> int:
    return sum(rows_of(record.headers) for record in records)


def _bytes(records: list[Record]) -> int:
    return sum(len(record.value) for record in records)
