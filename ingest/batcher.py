"""Open blocks: requests that arrive within a few milliseconds share a block, also across tenants.

Small blocks are what makes ClickHouse inserts dear, so this is the most important knob of the data
plane. A block is open per lane (partition of the topic), signal and retention class. It is closed
after `block_wait_ms`, or when it is full; while earlier blocks are still on their way to the log,
it stays open and grows instead. Closing, compression and the append run in a thread.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

import xxhash

from ingest import metrics
from ingest.codec import Appended, Block, BlockFull, Encoder
from ingest.codec.cardinality import Guard
from ingest.compression import Compress
from ingest.ledger.counts import minute_now
from ingest.log import Headers, TelemetryLog
from ingest.records import RecordInfo, RequestRows, TenantRows, to_headers
from ingest.signals import TOPIC_OF_SIGNAL, Signal
from shared.errors import TelemetryFlowError, Unavailable
from shared.faults import crash_point

# A larger body makes a good block by itself, and would hold up the event loop: it is decoded in a
# thread, with an encoder of its own.
OWN_BLOCK_BYTES_MIN: Final = 512 * 1024
# Blocks of one lane, signal and class between closing and durable; beyond it the open block waits.
BLOCKS_ON_THE_WAY_MAX: Final = 2
# A request that is not durable by then is answered as retryable: well before clients give up.
DURABLE_SECONDS_MAX: Final = 4.5
# Emptied encoders that are kept for reuse, of each signal and class: their buffers are warm.
SPARE_ENCODERS_MAX: Final = 3
CODEC_THREADS: Final = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """When a block is closed: raw bytes, rows, and time since its first row."""

    bytes_max: int
    rows_max: int
    wait_ms: int


class Request(NamedTuple):
    """One export request, authenticated and as protobuf.

    Without a tenant ('') all its items are rejected; a workspace that is '' is not known.
    """

    id: bytes
    tenant_id: str
    key_id: str
    workspace_id: str
    retention_days: int
    received_ns: int
    body: bytes
    # Of the tenant, where it has one.
    guard: Guard | None = None


class Durable(NamedTuple):
    """What became of a request: its rows are in blocks that were closed in *minute* (Unix)."""

    appended: Appended
    minute: int


class _Member(NamedTuple):
    """A request of an open block: which rows are its own, and who waits for them."""

    request: Request
    appended: Appended
    durable: asyncio.Future[int]


class _Key(NamedTuple):
    lane: int
    signal: Signal
    retention_days: int


@dataclass(slots=True)
class _Open:
    """The open block of one lane, signal and class; `due` once it has waited long enough."""

    encoder: Encoder
    members: list[_Member] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    late: asyncio.TimerHandle | None = None
    due: bool = False


class _Way:
    """How blocks of one key get to the log: one is open, a few are on the way."""

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.opened: _Open | None = None
        self.blocks_on_the_way = 0
        self.room = asyncio.Semaphore(BLOCKS_ON_THE_WAY_MAX)
        # Requests that found the open block full wait here, and those that come after them: each
        # is decoded when its turn comes, not again and again while there is no room.
        self.line = asyncio.Lock()
        self.in_line = 0


class Batcher:
    """Gathers requests into blocks and makes the blocks durable."""

    def __init__(
        self, log: TelemetryLog, *, lanes: int, limits: BlockLimits, compress: Compress
    ) -> None:
        self._log = log
        self._lanes = lanes
        self._limits = limits
        self._compress = compress
        self._ways: dict[tuple[int, Signal, int], _Way] = {}
        self._spare: dict[tuple[Signal, int], list[Encoder]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._own_blocks = asyncio.Semaphore(CODEC_THREADS)
        self._threads = ThreadPoolExecutor(CODEC_THREADS, thread_name_prefix="codec")

    async def append(
        self, signal: Signal, request: Request, took: Callable[[int], None]
    ) -> Durable:
        """Decode the request into a block and wait until that is durable.

        *took* is told how many items it had, as soon as that is known.
        Raises Malformed when it cannot be decoded, Unavailable when it cannot be made durable now;
        a cancelled call may still become durable.
        """
        lane = int.from_bytes(request.id[:8], "little") % self._lanes
        # At once, before anything is decoded: while the log is away, refusals must be cheap.
        held_up = self._log.held_up(TOPIC_OF_SIGNAL[signal], lane)
        if held_up:
            raise Unavailable(held_up)
        # A plain tuple finds what is kept under a key, and costs a third of one.
        way = self._ways.get((lane, signal, request.retention_days))
        if way is None:
            key = _Key(lane, signal, request.retention_days)
            way = self._ways[key] = _Way(key)
        if len(request.body) >= OWN_BLOCK_BYTES_MIN:
            return await self._append_own_block(way.key, request, took)
        appended, opened = await self._decode_into_open(way, request)
        took(appended.items)
        if appended.accepted:
            durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            opened.members.append(_Member(request, appended, durable))
            return Durable(appended, await durable)
        return Durable(appended, minute_now())

    def trouble(self) -> str | None:
        """Why blocks cannot be made durable now, None when they can."""
        return self._log.trouble()

    async def close(self) -> None:
        """Make everything open durable; to be called when no more requests come."""
        for way in self._ways.values():
            if way.opened is not None:
                await self._close_block(way, way.opened)
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._threads.shutdown()

    async def _decode_into_open(self, way: _Way, request: Request) -> tuple[Appended, _Open]:
        if way.in_line:
            return await self._decode_in_line(way, request)
        opened = way.opened or self._open_block(way)
        try:
            return _encoded(opened.encoder, request), opened
        except BlockFull:
            return await self._decode_in_line(way, request)

    async def _decode_in_line(self, way: _Way, request: Request) -> tuple[Appended, _Open]:
        way.in_line += 1
        try:
            async with asyncio.timeout(DURABLE_SECONDS_MAX), way.line:
                return await self._decode_when_there_is_room(way, request)
        except TimeoutError:
            raise _too_late() from None
        finally:
            way.in_line -= 1

    async def _decode_when_there_is_room(
        self, way: _Way, request: Request
    ) -> tuple[Appended, _Open]:
        while True:
            opened = way.opened or self._open_block(way)
            try:
                return _encoded(opened.encoder, request), opened
            except BlockFull:
                await self._close_block(way, opened)

    def _open_block(self, way: _Way) -> _Open:
        opened = way.opened = _Open(self._take_encoder(way.key))
        loop = asyncio.get_running_loop()
        wait_seconds = self._limits.wait_ms / 1000
        opened.timer = loop.call_later(wait_seconds, self._on_due, way, opened)
        opened.late = loop.call_later(
            wait_seconds + DURABLE_SECONDS_MAX, _fail, opened.members, _too_late()
        )
        return opened

    def _on_due(self, way: _Way, opened: _Open) -> None:
        """Its time is over; behind other blocks it may still grow, since it could not be stored."""
        opened.due = True
        if way.blocks_on_the_way == 0:
            self._spawn(self._close_block(way, opened))

    async def _close_block(self, way: _Way, opened: _Open) -> None:
        """Send *opened* on its way, unless another task did so while this one waited for room."""
        await way.room.acquire()
        if way.opened is not opened:
            way.room.release()
            return
        way.opened = None
        if opened.timer is not None:
            opened.timer.cancel()
        way.blocks_on_the_way += 1
        self._spawn(self._deliver(way, opened))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, way: _Way, opened: _Open) -> None:
        """Compress and append; then tell everyone who waits."""
        loop, key = asyncio.get_running_loop(), way.key
        minute = minute_now()
        try:
            records = await loop.run_in_executor(
                self._threads, partial(self._seal, opened.encoder, key, opened.members, minute)
            )
            self._give_back(key, opened.encoder)
            crash_point("gateway.before_produce")
            if records:
                await self._log.append_many(TOPIC_OF_SIGNAL[key.signal], key.lane, records)
            crash_point("gateway.after_produce")
        except TelemetryFlowError as error:
            _fail(opened.members, error)
        except Exception:  # whatever it is: the clients must be told, and may send again
            logger.exception("a block of %s was not made durable", key.signal)
            _fail(opened.members, Unavailable("the request could not be made durable"))
        else:
            _succeed(opened.members, minute)
        finally:
            if opened.late is not None:
                opened.late.cancel()
            way.blocks_on_the_way -= 1
            way.room.release()
            if way.opened is not None and way.opened.due:
                self._spawn(self._close_block(way, way.opened))

    async def _append_own_block(
        self, key: _Key, request: Request, took: Callable[[int], None]
    ) -> Durable:
        loop = asyncio.get_running_loop()
        minute = minute_now()
        async with self._own_blocks:
            appended, records = await loop.run_in_executor(
                self._threads, partial(self._seal_one, key, request, minute)
            )
        took(appended.items)
        if records:
            # Shielded: what is under way to the disk is not taken back when the client gives up.
            append = asyncio.ensure_future(
                self._log.append_many(TOPIC_OF_SIGNAL[key.signal], key.lane, records)
            )
            try:
                await asyncio.wait_for(asyncio.shield(append), DURABLE_SECONDS_MAX)
            except TimeoutError:
                raise _too_late() from None
        return Durable(appended, minute)

    def _seal_one(
        self, key: _Key, request: Request, minute: int
    ) -> tuple[Appended, list[tuple[bytes, Headers]]]:
        encoder = self._new_encoder(key)
        appended = _encoded(encoder, request)
        members = [(request, appended)]
        return appended, self._records(encoder.close(), key, members, minute)

    def _seal(
        self, encoder: Encoder, key: _Key, members: Sequence[_Member], minute: int
    ) -> list[tuple[bytes, Headers]]:
        pairs = [(member.request, member.appended) for member in members]
        return self._records(encoder.close(), key, pairs, minute)

    def _records(
        self,
        blocks: Sequence[Block],
        key: _Key,
        members: Sequence[tuple[Request, Appended]],
        minute: int,
    ) -> list[tuple[bytes, Headers]]:
        """The blocks as log records: compressed, each with the requests that it holds."""
        requests = _requests_of_blocks(members)
        records = []
        for block in blocks:
            metrics.BLOCK_ROWS.labels(key.signal).observe(block.rows)
            value = self._compress.frame(block.native)
            metrics.BLOCK_BYTES.labels(key.signal, "raw").inc(len(block.native))
            metrics.BLOCK_BYTES.labels(key.signal, "compressed").inc(len(value))
            info = RecordInfo(
                table=block.table,
                rows=block.rows,
                retention_days=key.retention_days,
                time_min_ns=block.time_min_ns,
                time_max_ns=block.time_max_ns,
                encoding=self._compress.encoding,
                tenants=_tenants(requests[block.table, block.part]),
                requests=tuple(requests[block.table, block.part]),
                minute=minute,
            )
            records.append((value, to_headers(info)))
        return records

    def _take_encoder(self, key: _Key) -> Encoder:
        spare = self._spare.setdefault((key.signal, key.retention_days), [])
        return spare.pop() if spare else self._new_encoder(key)

    def _new_encoder(self, key: _Key) -> Encoder:
        return Encoder(
            key.signal.value,
            retention_days=key.retention_days,
            block_bytes_max=self._limits.bytes_max,
            block_rows_max=self._limits.rows_max,
        )

    def _give_back(self, key: _Key, encoder: Encoder) -> None:
        spare = self._spare.setdefault((key.signal, key.retention_days), [])
        if len(spare) < SPARE_ENCODERS_MAX:
            spare.append(encoder)


def _encoded(encoder: Encoder, request: Request) -> Appended:
    return encoder.append(
        request.body,
        tenant=request.tenant_id,
        workspace=request.workspace_id,
        received_ns=request.received_ns,
        guard=request.guard,
    )


def _requests_of_blocks(
    members: Sequence[tuple[Request, Appended]],
) -> dict[tuple[str, int], list[RequestRows]]:
    """Which rows of each (table, part) belong to which request.

    A request counts its own parts: what it wrote into a table is part 0, 1, … of the request,
    wherever it was put, so that a retry has the same parts. Its bytes are told with the first.
    """
    found: dict[tuple[str, int], list[RequestRows]] = {}
    for request, appended in members:
        parts: dict[str, int] = {}
        size, identity = len(request.body), _identity(request, appended)
        for table, part, first_row, rows in appended.spans:
            own_part = parts.get(table, 0)
            parts[table] = own_part + 1
            entry = RequestRows(
                identity, request.tenant_id, own_part, first_row, rows, request.key_id, size
            )
            found.setdefault((table, part), []).append(entry)
            size = 0
    return found


def _identity(request: Request, appended: Appended) -> bytes:
    """What the writer knows a repeat of the request by; its first half picks the lane.

    A guard may judge a repeat otherwise. What it lets in then has another identity, or rows that
    were answered as stored would be dropped as repeated.
    """
    if not appended.guarded:
        return request.id
    judged = appended.guarded.to_bytes(8, "little")
    return request.id[:8] + xxhash.xxh3_64_digest(request.id + judged)


def _tenants(requests: Sequence[RequestRows]) -> tuple[TenantRows, ...]:
    found: dict[tuple[str, str], int] = {}
    for _id, tenant, _part, _first_row, rows, key, _bytes in requests:
        place = (tenant, key)
        found[place] = found.get(place, 0) + rows
    return tuple(TenantRows(tenant, rows, key) for (tenant, key), rows in found.items())


def _too_late() -> Unavailable:
    return Unavailable(f"not durable after {DURABLE_SECONDS_MAX:.0f} s; send the request again")


def _succeed(members: Sequence[_Member], minute: int) -> None:
    for member in members:
        if not member.durable.done():
            member.durable.set_result(minute)


def _fail(members: Sequence[_Member], error: TelemetryFlowError) -> None:
    for member in members:
        if not member.durable.done():
            member.durable.set_exception(error)
