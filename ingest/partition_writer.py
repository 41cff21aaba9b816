"""One partition of the log into ClickHouse, exactly once.

Plan a range of records, commit the plan, insert it group by group under tokens, commit the end.
Whatever crashes in between, the same plan is repeated under the same tokens. What the server or an
operator has to mend is waited out; what the data causes is cut in halves down to the bad record,
which becomes a dead letter. Each cut is committed before the halves are inserted, so that a part
is never inserted both whole and in halves.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ingest import metrics
from ingest.backoff import Backoff
from ingest.dead_letters import DeadLetterLimits, bury
from ingest.ingested import append_ingested
from ingest.inserts import Inserts
from ingest.log import Record, TelemetryLog
from ingest.plans import (
    UNREADABLE,
    Group,
    GroupKey,
    NewerRelease,
    Plan,
    PlannedRecord,
    Progress,
    from_metadata,
    grouped,
    insert_token,
    new_plan,
    read_headers,
    to_metadata,
)
from ingest.ranges import BatchLimits, Ranges
from ingest.repeats import SeenRequests
from shared.clickhouse.exception_codes import SchemaMismatch
from shared.errors import Invalid, Unavailable
from shared.faults import crash_point

WRITER_GROUP: Final = "writer"

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
EnsureTenants = Callable[[Sequence[str]], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]

# What an operator has to look at, and how the metric calls it; Unavailable passes by itself.
_PAUSE_OF: Final = {SchemaMismatch: "schema", NewerRelease: "version"}


# How long a partition that would set too much aside waits before it tries once more.
PAUSE_SECONDS: Final = 30.0


@dataclass(slots=True)
class _Position:
    """What is committed: where to go on, what was done so far, and the plan under way."""

    offset: int
    progress: Progress
    plan: Plan | None = None


class PartitionWriter:
    """Writes one partition; owned by one task."""

    def __init__(
        self,
        log: TelemetryLog,
        topic: str,
        partition: int,
        inserts: Inserts,
        *,
        limits: BatchLimits,
        ensure_tenants: EnsureTenants,
        insert_slots: asyncio.Semaphore,
        dead_letter_limits: DeadLetterLimits | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._log = log
        self._topic = topic
        self._partition = partition
        self._inserts = inserts
        self._ensure_tenants = ensure_tenants
        self._insert_slots = insert_slots
        self._dead_letter_limits = dead_letter_limits or DeadLetterLimits()
        self._sleep = sleep
        self._ranges = Ranges(log, topic, partition, limits=limits, sleep=sleep)
        self._seen = SeenRequests()
        self._position: _Position | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Write until *stop*, or until cancelled: that loses nothing, the plan is repeated."""
        while not stop.is_set():
            await self.step()

    async def step(self) -> bool:
        """Carry out one plan, however long it takes; False when no records came."""
        try:
            return await self._step()
        except BaseException:
            # What was noted of the plan's requests must not be taken for repeats of themselves.
            self._position = None
            raise

    async def _step(self) -> bool:
        if self._position is None:
            self._position = await self._patiently(self._recover)
        position = self._position
        records = await self._patiently(lambda: self._planned(position))
        if position.plan is None:
            return False
        planned = await self._patiently(lambda: self._opened(records))
        kept = [one for one in map(self._seen.without_repeats, planned) if one is not None]
        repeated_rows = sum(one.rows for one in planned) - sum(one.rows for one in kept)
        groups = grouped(kept)
        await self._ensure_tenants(_tenants_of(groups))
        for group in groups:
            position.plan = await self._store(position, position.plan, group)
        crash_point("writer.after_insert_before_commit")
        await self._finish(position, position.plan, kept, repeated_rows)
        crash_point("writer.after_commit")
        return True

    async def _recover(self) -> _Position:
        """What the last process left: `bounds` tells whether retention has eaten unread data."""
        committed = await self._log.committed(WRITER_GROUP, self._topic, self._partition)
        first, _end = await self._log.bounds(self._topic, self._partition)
        offset = first if committed is None else committed.offset
        await self._seen.read_back(self._log, self._topic, self._partition, offset)
        if committed is None:
            return _Position(first, Progress())
        try:
            progress, plan = from_metadata(committed.offset, committed.metadata)
        except Invalid as error:
            raise NewerRelease(f"{self._topic}/{self._partition}: {error}") from error
        if first > committed.offset:
            logger.error(
                "%s/%d lost records %d to %d before they were read: retention is too short",
                *(self._topic, self._partition, committed.offset, first - 1),
            )
        return _Position(committed.offset, progress, plan)

    async def _planned(self, position: _Position) -> list[Record]:
        """The records of the plan under way, or of a new one that is committed first."""
        plan = position.plan
        if plan is not None:
            return await self._ranges.planned_records(plan.start, plan.end)
        records = await self._ranges.next_records(position.offset)
        if not records:
            return []
        crash_point("writer.after_poll")
        plan = new_plan(self._log.identity, records)
        # Offsets that hold nothing (retention, damage) before the first record are passed here.
        await self._commit(plan.start, position.progress, plan)
        position.plan = plan
        crash_point("writer.after_plan_commit")
        return records

    async def _opened(self, records: Sequence[Record]) -> list[PlannedRecord]:
        return [read_headers(record) for record in records]

    async def _store(self, position: _Position, plan: Plan, group: Group) -> Plan:
        """Insert what *plan* still has to do of *group*; the plan as it stands then."""
        refusal = Invalid("ClickHouse refused it; the writer died before it noted why")
        while (bounds := plan.bounds_of(group.key)) is not None and len(bounds) > 1:
            part = group.between(plan.start + bounds[0], plan.start + bounds[1])
            if len(part) == 1 and part[0].record.offset in plan.buried:
                await self._bury(part[0], refusal)
                plan = plan.cut_at(group.key, bounds[1:])
            else:
                token = insert_token(plan, group.key, bounds[0], bounds[1])
                refused = await self._insert(group.key, part, token)
                if refused is None:
                    plan = plan.cut_at(group.key, bounds[1:])
                    continue
                if len(part) == 1 and not self._dead_letter_limits.allows_another():
                    await self._pause("dead_letters", _too_many(refused))
                    continue
                refusal = part[0].refusal or refused
                plan = _cut(plan, group.key, part, bounds)
            await self._commit_patiently(plan.start, position.progress, plan)
        return plan

    async def _insert(
        self, key: GroupKey, part: Sequence[PlannedRecord], token: str
    ) -> Invalid | None:
        """Insert, waiting out everything that is not the data's fault; why it was refused."""
        if not part:
            return None
        if key == UNREADABLE:
            return part[0].refusal

        async def insert() -> None:
            async with self._insert_slots:
                crash_point("writer.before_insert")
                await self._inserts.insert(key, part, token)

        try:
            await self._patiently(insert)
        except Invalid as refusal:
            return refusal
        self._dead_letter_limits.stored(len(part))
        return None

    async def _bury(self, one: PlannedRecord, refusal: Invalid) -> None:
        record, table = one.record, one.info.table if one.info else ""

        async def append() -> None:
            try:
                await bury(self._log, record, table, str(refusal))
            except Invalid as error:
                raise Unavailable(f"the dead-letter topic refuses a record: {error}") from error

        await self._patiently(append)
        crash_point("writer.in_dead_letter")
        self._dead_letter_limits.buried()
        metrics.DEAD_LETTERS.labels("refused" if one.info else "unreadable").inc()
        logger.error(
            "record %d of %s/%d is a dead letter: %s",
            *(record.offset, record.topic, record.partition, refusal),
        )

    async def _finish(
        self,
        position: _Position,
        plan: Plan,
        records: Sequence[PlannedRecord],
        repeated_rows: int,
    ) -> None:
        """Tell what was stored, then pass the plan."""
        stored = [one for one in records if one.record.offset not in plan.buried]
        stored_rows = sum(one.rows for one in stored)
        await self._patiently(
            lambda: append_ingested(
                self._log,
                stored,
                topic=self._topic,
                partition=self._partition,
                start=plan.start,
                end=plan.end,
                token=plan.token,
            )
        )
        progress = Progress(
            position.progress.stored + stored_rows,
            position.progress.dead + sum(one.rows for one in records) - stored_rows,
            position.progress.repeated + repeated_rows,
        )
        await self._commit_patiently(plan.end + 1, progress, None)
        self._position = _Position(plan.end + 1, progress)

    async def _commit_patiently(self, offset: int, progress: Progress, plan: Plan | None) -> None:
        await self._patiently(lambda: self._commit(offset, progress, plan))

    async def _commit(self, offset: int, progress: Progress, plan: Plan | None) -> None:
        metadata = to_metadata(progress, plan)
        await self._log.commit(WRITER_GROUP, self._topic, self._partition, offset, metadata)

    async def _patiently(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """The result of *work*, tried again as long as anything but the data is at fault."""
        backoff = Backoff()
        while True:
            try:
                return await work()
            except Unavailable as error:
                logger.warning("%s/%d waits: %s", self._topic, self._partition, error)
                await self._sleep(backoff.next_seconds())
            except (SchemaMismatch, NewerRelease) as error:
                await self._pause(_PAUSE_OF[type(error)], str(error), backoff.next_seconds())

    async def _pause(self, reason: str, text: str, seconds: float = PAUSE_SECONDS) -> None:
        """Wait for an operator, visibly."""
        logger.error("%s/%d is paused: %s", self._topic, self._partition, text)
        with metrics.PARTITIONS_PAUSED.labels(reason).track_inprogress():
            await self._sleep(seconds)


def _cut(plan: Plan, key: GroupKey, part: Sequence[PlannedRecord], bounds: tuple[int, ...]) -> Plan:
    """The plan after the first part of *bounds* was refused: in halves, or decided to be buried.

    The decision is committed before the burial, and never revised: a record that is accepted after
    a crash must not be both stored and a dead letter.
    """
    if len(part) == 1:
        return plan.cut_at(key, bounds).with_buried(part[0].record.offset)
    middle = part[len(part) // 2].record.offset - plan.start
    return plan.cut_at(key, (bounds[0], middle, *bounds[1:]))


def _too_many(refusal: Invalid) -> str:
    return (
        f"so many records are refused that the fault is hardly in the data: {refusal}; "
        "mend the cause, or restart the writer to set more of them aside"
    )


def _tenants_of(groups: Sequence[Group]) -> list[str]:
    records = (one for group in groups for one in group.records)
    return sorted({entry.tenant for one in records if one.info for entry in one.info.tenants})
