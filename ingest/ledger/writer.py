"""What gateways and writers told, into tf_ledger, tf_usage and tf_rejected, exactly
once.

The same principle as for telemetry: a range of documents is planned, the plan is committed with the
offset, the sums are inserted under a token, the end is committed. A document that was told twice
(its teller died before it knew) is recognised by its number, which grows with each document of one
teller; what was seen is rebuilt from the documents before the committed offset.
"""

import asyncio
import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any, Final

import orjson

from ingest import metrics
from ingest.log import Assignment, LostPartition, Record, TelemetryLog, records_between
from ingest.partition_writer import WRITER_GROUP
from ingest.signals import INGESTED_TOPIC, LEDGER_TOPIC, TOPIC_OF_SIGNAL
from shared.errors import TelemetryFlowError, Unavailable

LEDGER_GROUP: Final = "ledger"
LEDGER_TOPICS: Final = (INGESTED_TOPIC, LEDGER_TOPIC)
# Documents wait so long for more: each INSERT has one row per tenant, minute and event.
GATHER_SECONDS: Final = 3.0
DOCUMENTS_PER_PLAN_MAX: Final = 500
LOOK_SECONDS: Final = 0.5
CHECK_SECONDS: Final = 30.0
# A minute is looked at once everything of it must have come through, and for a day.
SETTLED_SECONDS: Final = 180.0
CHECKED_SECONDS_MAX: Final = 24 * 3600.0
# By how much the clocks of this process and of the log may differ.
CLOCK_SECONDS: Final = 10.0
# How many documents back a repeated one may be; also how many a successor reads back.
SEEN_DOCUMENTS: Final = 5_000
_METADATA_VERSION: Final = 1

# After the minute, in the order of the document.
_REJECTED_COLUMNS: Final = (
    *("TenantId", "Signal", "Reason", "ServiceName", "Name", "TraceId", "SpanId"),
    *("TimeUnixNano", "AttributeKeys"),
)

logger = logging.getLogger(__name__)

Place = tuple[str, int]
# Tenant, minute, signal, event, reason.
Row = tuple[str, int, str, str, str]
# Hour, tenant, key, signal.
UsagePlace = tuple[int, str, str, str]
Command = Callable[[str, dict[str, str]], Awaitable[None]]
Query = Callable[[str], Awaitable[Sequence[Sequence[Any]]]]

# What is usage: a repeat was stored before, a dead letter is stored when it is replayed.
USED_EVENTS: Final = frozenset({"stored", "replayed"})


@dataclass(slots=True)
class Usage:
    """What was stored in an hour, and the last minute of it (Unix seconds)."""

    items: int = 0
    bytes: int = 0
    last_minute: int = 0


class Sums:
    """What documents say, added up as rows of the three tables."""

    def __init__(self) -> None:
        self.ledger: Counter[Row] = Counter()
        self.usage: defaultdict[UsagePlace, Usage] = defaultdict(Usage)
        # Samples of rejected items, see ingest.ledger.rejected.
        self.rejected: list[Sequence[Any]] = []

    def add(self, document: dict[str, Any]) -> None:
        """Add a document; KeyError, TypeError or ValueError, and nothing added, when it is none."""
        if "gateway" in document:
            self.ledger.update(_told_by_gateway(document))
            self.rejected += document.get("rejected", ())
            return
        ledger, usage = _told_by_writer(document)
        self.ledger.update(ledger)
        for place, items, size, minute in usage:
            sums = self.usage[place]
            sums.items += items
            sums.bytes += size
            sums.last_minute = max(sums.last_minute, minute)


class SeenDocuments:
    """The last number of each teller, for so many documents of the log."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Sequence[int], int]] = {}

    def is_repeat(self, record: Record, document: dict[str, Any]) -> bool:
        """Whether the document was seen before; it is noted."""
        if "gateway" in document:
            teller, number = f"g/{document['gateway']}", [int(document["seq"])]
        elif not document.get("log"):
            # A replay of one dead letter, in whatever order.
            teller, number = f"r/{document['id']}", [0]
        else:
            teller = f"w/{document['topic']}/{document['partition']}/{document['log']}"
            part = int(str(document["id"]).rpartition("-")[2])
            number = [int(document["end"]), part]
        last = self._last.get(teller)
        if last and last[1] > record.offset - SEEN_DOCUMENTS and number <= list(last[0]):
            return True
        self._last[teller] = number, record.offset
        if len(self._last) > 2 * SEEN_DOCUMENTS:
            oldest = record.offset - SEEN_DOCUMENTS
            self._last = {one: told for one, told in self._last.items() if told[1] > oldest}
        return False


@dataclass
class _Position:
    offset: int
    end: int | None = None
    token: str = ""
    seen: SeenDocuments = field(default_factory=SeenDocuments)


class LedgerWriter:
    """Writes the ledger of the partitions that are assigned to this process, and checks it."""

    def __init__(self, log: TelemetryLog, command: Command, query: Query, *, database: str) -> None:
        self._log = log
        self._command = command
        self._query = query
        self._database = database
        self._positions: dict[Place, _Position] = {}
        self._check_at = 0.0
        # Before `_settled` everything is in the table; before `_passed` it will be, with the
        # documents that were pending at `_looked_at`. Monotonic times: the wall clock may jump.
        self._settled = self._passed = self._looked_at = -math.inf

    async def run(self) -> None:
        """Write until cancelled: that loses nothing, the plan is repeated."""
        assignment = await self._joined()
        try:
            while True:
                await self._look(assignment)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await assignment.close()

    async def step(self, place: Place, *, gather_seconds: float = GATHER_SECONDS) -> bool:
        """Carry out one plan for *place*; False when there is nothing to do yet."""
        try:
            position = self._positions.get(place) or await self._recovered(place)
            self._positions[place] = position
            return await self._carry_out(place, position, gather_seconds)
        except BaseException:
            self._positions.pop(place, None)
            raise

    async def missing(self) -> dict[str, int]:
        """Items by signal that were acknowledged and are nowhere; logs where."""
        settled = await self._settled_until()
        rows = await self._query(
            f"SELECT Signal, TenantId, Minute, Missing FROM `{self._database}`.ledger "  # noqa: S608
            f"WHERE Missing > 0 AND TenantId != '' AND Minute < toDateTime({settled}) "
            f"AND Minute > toDateTime({int(time() - CHECKED_SECONDS_MAX)})"
        )
        found = dict.fromkeys([str(signal) for signal in TOPIC_OF_SIGNAL], 0)
        for signal, tenant, minute, items in rows:
            found[str(signal)] = found.get(str(signal), 0) + int(items)
            logger.error(
                "%d items of %s that tenant %r was told are accepted at %s are missing",
                *(items, signal, tenant, minute),
            )
        return found

    async def _settled_until(self) -> int:
        """Unix time before which everything of a minute stands in the table, 0 at the first look.

        What the writers have passed is only told then: it counts once the documents that were
        pending at an earlier look are in the table too.
        """
        pending = [await self._log.backlog(LEDGER_GROUP, topic) for topic in LEDGER_TOPICS]
        age = max((one.age_seconds + CLOCK_SECONDS for one in pending if one.records), default=0.0)
        if self._looked_at <= monotonic() - age:
            self._settled = self._passed
            now = monotonic()
            topics = TOPIC_OF_SIGNAL.values()
            ages = [(await self._log.backlog(WRITER_GROUP, one)).age_seconds for one in topics]
            self._passed = now - max(ages) - SETTLED_SECONDS
            self._looked_at = monotonic()
        return int(max(0.0, time() - (monotonic() - self._settled)))

    async def _joined(self) -> Assignment:
        while True:
            with suppress(Unavailable):
                return await self._log.join(LEDGER_GROUP, LEDGER_TOPICS)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, assignment: Assignment) -> None:
        assigned = assignment.assigned()
        for place in self._positions.keys() - assigned:
            del self._positions[place]
        if (INGESTED_TOPIC, 0) not in assigned:
            # Another process checks now: what this one found last must not stay.
            metrics.LEDGER_MISSING_ITEMS.clear()
        assignment.release(assignment.revoked())
        for place in sorted(assigned):
            try:
                while assignment.lease(*place).held() and await self.step(place):
                    pass
            except LostPartition as error:
                logger.info("the ledger of %s/%d: %s", *place, error)
            except TelemetryFlowError as error:
                logger.warning("the ledger of %s/%d waits: %s", *place, error)
        if (INGESTED_TOPIC, 0) in assigned and monotonic() >= self._check_at:
            self._check_at = monotonic() + CHECK_SECONDS
            try:
                for signal, items in (await self.missing()).items():
                    metrics.LEDGER_MISSING_ITEMS.labels(signal).set(items)
            except TelemetryFlowError as error:
                logger.warning("the ledger cannot be checked now: %s", error)

    async def _recovered(self, place: Place) -> _Position:
        committed = await self._log.committed(LEDGER_GROUP, *place)
        first, _end = await self._log.bounds(*place)
        position = _Position(first)
        if committed is not None:
            position.offset = max(first, committed.offset)
            noted = orjson.loads(committed.metadata or "{}")
            if noted.get("end", -1) >= position.offset:
                position.end, position.token = int(noted["end"]), str(noted["token"])
        start = max(first, position.offset - SEEN_DOCUMENTS)
        async for record in records_between(self._log, *place, start, position.offset):
            _add(Sums(), record, position.seen)
        return position

    async def _carry_out(self, place: Place, position: _Position, gather_seconds: float) -> bool:
        records = await self._planned(place, position, gather_seconds)
        if position.end is None:
            return False
        sums = Sums()
        for record in records:
            _add(sums, record, position.seen)
        await self._insert("tf_ledger", _ledger_rows(sums), position.token)
        await self._insert("tf_usage", _usage_rows(sums), position.token)
        await self._insert("tf_rejected", _rejected_rows(sums), position.token)
        await self._log.commit(LEDGER_GROUP, *place, position.end + 1)
        position.offset, position.end = position.end + 1, None
        return True

    async def _planned(
        self, place: Place, position: _Position, gather_seconds: float
    ) -> list[Record]:
        if position.end is not None:
            end = position.end + 1
            if (await self._log.bounds(*place))[1] < end:
                raise Unavailable("the log does not show all documents of the plan")
            return [
                record async for record in records_between(self._log, *place, position.offset, end)
            ]
        _first, end = await self._log.bounds(*place)
        # A log that lost documents uses their offsets again.
        position.offset = min(position.offset, end)
        end = min(end, position.offset + DOCUMENTS_PER_PLAN_MAX)
        records = [
            record async for record in records_between(self._log, *place, position.offset, end)
        ]
        if not records:
            return []
        # What is from the future was told under a clock that was wrong: it cannot be waited for.
        young = 0 <= time() - records[0].timestamp_ms / 1000 < gather_seconds
        if young and len(records) < DOCUMENTS_PER_PLAN_MAX:
            return []
        first, last = records[0], records[-1]
        ends = (first.offset, first.timestamp_ms, last.offset, last.timestamp_ms)
        parts = ("ledger", self._log.identity, *place, *ends)
        position.token = hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]
        position.offset, position.end = first.offset, last.offset
        metadata = {"v": _METADATA_VERSION, "end": position.end, "token": position.token}
        await self._log.commit(
            LEDGER_GROUP, *place, position.offset, orjson.dumps(metadata).decode()
        )
        return records

    async def _insert(self, table: str, rows: Iterable[dict[str, Any]], token: str) -> None:
        lines = [orjson.dumps(row).decode() for row in rows]
        if not lines:
            return
        await self._command(
            f"INSERT INTO `{self._database}`.{table} FORMAT JSONEachRow\n" + "\n".join(lines),
            {"insert_deduplication_token": token, "async_insert": "0", "insert_deduplicate": "1"},
        )


def _add(sums: Sums, record: Record, seen: SeenDocuments) -> None:
    """Add what *record* tells, unless it was told before or cannot be read."""
    try:
        document = orjson.loads(record.value)
        if not seen.is_repeat(record, document):
            sums.add(document)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        place = (record.topic, record.partition, record.offset)
        logger.error("%s/%d: document %d cannot be read: %r", *place, error)


def _told_by_gateway(document: dict[str, Any]) -> Counter[Row]:
    rows: Counter[Row] = Counter()
    for minute, tenant, signal, event, reason, items in document["counts"]:
        rows[str(tenant), int(minute) * 60, str(signal), str(event), str(reason)] += int(items)
    return rows


def _told_by_writer(
    document: dict[str, Any],
) -> tuple[Counter[Row], list[tuple[UsagePlace, int, int, int]]]:
    rows: Counter[Row] = Counter()
    usage = []
    signal = str(document["signal"])
    for one in document["counts"]:
        tenant, second = str(one["tenant"]), int(one["minute"]) * 60
        event, items = str(one["event"]), int(one["rows"])
        rows[tenant, second, signal, event, ""] += items
        if event in USED_EVENTS:
            place = (second - second % 3_600, tenant, str(one.get("key", "")), signal)
            usage.append((place, items, int(one.get("bytes", 0)), second))
    return rows, usage


def _ledger_rows(sums: Sums) -> Iterator[dict[str, Any]]:
    names = ("TenantId", "Minute", "Signal", "Event", "Reason")
    for row, items in sorted(sums.ledger.items()):
        yield dict(zip(names, row, strict=True)) | {"Items": items}


def _usage_rows(sums: Sums) -> Iterator[dict[str, Any]]:
    names = ("Hour", "TenantId", "KeyId", "Signal")
    for place, used in sorted(sums.usage.items()):
        yield dict(zip(names, place, strict=True)) | {
            "Items": used.items,
            "Bytes": used.bytes,
            "LastMinute": used.last_minute,
        }


def _rejected_rows(sums: Sums) -> Iterator[dict[str, Any]]:
    for minute, *rest in sums.rejected:
        yield {"Minute": minute * 60} | dict(zip(_REJECTED_COLUMNS, rest, strict=False))
