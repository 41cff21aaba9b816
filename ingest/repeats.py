"""A client's retry is not stored twice (I9).

A gateway that dies between durable and answered leaves a request in the log that its client sends
again. Both meet in one partition, because the request's id picks it, and each record lists its
requests: the writer drops what it has seen within the window. The window is measured by the times
and the order of the records themselves, so that the decision is the same however often a plan is
repeated, and by whomever.
"""

from collections import Counter, OrderedDict
from dataclasses import replace
from typing import Final

import lz4.frame
import xxhash
from backports import zstd

from ingest.compression import compression
from ingest.log import Record, TelemetryLog
from ingest.native_rows import without_rows
from ingest.plans import PlannedRecord, RetryWindow, is_newer, read_headers
from ingest.records import RecordInfo, RequestRows, TenantRows, to_headers
from shared.errors import Invalid, Unavailable

# Blocks are at most INGEST_BLOCK_BYTES_MAX when raw; no frame may grow beyond this.
RAW_BYTES_MAX: Final = 1 << 30
_READ_RECORDS_MAX: Final = 1_000
_READ_BYTES_MAX: Final = 32 * 1024 * 1024


class SeenRequests:
    """The requests of one partition within the window before the record that comes next."""

    def __init__(self, window: RetryWindow) -> None:
        self.window = window
        # Request, table and part -> time of the record that held it last, oldest first. No plain
        # dict: it looks for its first entry behind all that were deleted before it.
        self._seen: OrderedDict[int, int] = OrderedDict()

    def without_repeats(self, planned: PlannedRecord) -> PlannedRecord | None:
        """The record without rows that came before, None when nothing remains; notes the rest.

        To be asked once for each record, in the order of the log.
        """
        repeated = self._note(planned)
        info = planned.info
        if not repeated or info is None:
            return planned
        if sum(one.rows for one in repeated) >= info.rows:
            return None
        try:
            return _cut(planned, info, repeated)
        except Invalid as refusal:
            return replace(planned, info=None, refusal=refusal)

    def reaches_back_seconds(self) -> float:
        """How long ago, in the log's time, a repeated request may be and still be recognised."""
        if not all(self.window):
            return 0.0
        if len(self._seen) < self.window.requests_max:
            return self.window.milliseconds / 1000
        times = self._seen.values()
        return (next(reversed(times)) - next(iter(times))) / 1000

    async def read_back(self, log: TelemetryLog, topic: str, partition: int, offset: int) -> None:
        """Learn what stands in the log before *offset*, as far as the window reaches.

        Raises Unavailable while the log does not show all of that.
        """
        self._seen.clear()
        if not all(self.window):
            return
        first, end = await log.bounds(topic, partition)
        if end < offset:
            raise Unavailable(f"{topic}/{partition} does not show its records up to {offset} yet")
        last = await _one(log, topic, partition, max(first, offset - 1))
        if first >= offset or last is None:
            return
        at = await self._window_start(log, last, first)
        while at < offset:
            records = await log.read(
                topic,
                partition,
                at,
                records_max=_READ_RECORDS_MAX,
                bytes_max=_READ_BYTES_MAX,
                wait_seconds=0,
            )
            if not records:
                raise Unavailable(f"{topic}/{partition} does not show record {at}")
            for record in records:
                if record.offset < offset and not is_newer(record):
                    self._note(read_headers(record))
            at = records[-1].offset + 1

    async def _window_start(self, log: TelemetryLog, last: Record, first: int) -> int:
        """An offset at or before the first record of the window that ends with *last*."""
        since_ms = last.timestamp_ms - self.window.milliseconds
        low, high = first, last.offset
        while low < high:
            middle = (low + high) // 2
            record = await _one(log, last.topic, last.partition, middle)
            if record is None or record.timestamp_ms >= since_ms:
                high = middle
            else:
                low = record.offset + 1
        return low

    def _note(self, planned: PlannedRecord) -> list[RequestRows]:
        """Which of the record's requests came before; all of them are noted."""
        if planned.info is None or not all(self.window):
            return []
        now_ms = planned.record.timestamp_ms
        repeated = []
        for request in planned.info.requests:
            key = _key(request, planned.info.table)
            # A repeat is noted too: what it repeats may lie before what a successor reads back.
            seen_ms = self._seen.pop(key, None)
            if seen_ms is not None and seen_ms >= now_ms - self.window.milliseconds:
                repeated.append(request)
            self._seen[key] = now_ms
        self._forget(now_ms)
        return repeated

    def _forget(self, now_ms: int) -> None:
        while self._seen:
            key, seen_ms = next(iter(self._seen.items()))
            if (
                len(self._seen) <= self.window.requests_max
                and seen_ms >= now_ms - self.window.milliseconds
            ):
                return
            del self._seen[key]


async def _one(log: TelemetryLog, topic: str, partition: int, offset: int) -> Record | None:
    records = await log.read(topic, partition, offset, records_max=1, bytes_max=1, wait_seconds=0)
    return records[0] if records else None


def _key(request: RequestRows, table: str) -> int:
    place = f"{table}/{request.part}/{request.tenant}".encode()
    return xxhash.xxh3_128_intdigest(request.id + place)


def _cut(planned: PlannedRecord, info: RecordInfo, repeated: list[RequestRows]) -> PlannedRecord:
    """The record without the rows of *repeated*, as a record of its own."""
    native = without_rows(
        _inflated(planned.record.value, info.encoding),
        [(one.first_row, one.first_row + one.rows) for one in repeated],
    )
    gone = Counter[tuple[str, str]]()
    for one in repeated:
        gone[one.tenant, one.key] += one.rows
    tenants = {
        (tenant, key): TenantRows(tenant, rows - gone[tenant, key], key)
        for tenant, rows, key in info.tenants
        if rows > gone[tenant, key]
    }
    kept = replace(
        info,
        rows=info.rows - gone.total(),
        tenants=tuple(tenants.values()),
        requests=tuple(
            one._replace(first_row=one.first_row - _rows_before(one, repeated))
            for one in info.requests
            if one not in repeated and (one.tenant, one.key) in tenants
        ),
    )
    value = compression(info.encoding).frame(native)
    return replace(
        planned,
        record=replace(planned.record, value=value, headers=to_headers(kept)),
        info=kept,
    )


def _rows_before(one: RequestRows, repeated: list[RequestRows]) -> int:
    return sum(other.rows for other in repeated if other.first_row < one.first_row)


def _inflated(value: bytes, encoding: str) -> bytes:
    frame = zstd.ZstdDecompressor() if encoding == "zstd" else lz4.frame.LZ4FrameDecompressor()
    try:
        native = bytes(frame.decompress(value, RAW_BYTES_MAX))
    except (zstd.ZstdError, RuntimeError, ValueError) as error:
        raise Invalid(f"the value is no {encoding} frame: {error}") from error
    if not frame.eof:
        raise Invalid("the value ends in the middle of its frame")
    return native
