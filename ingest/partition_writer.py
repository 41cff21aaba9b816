"""One partition of the log into ClickHouse, exactly once.

Plan a range of records, commit the plan, insert it group by group under tokens, commit the end.
Whatever crashes in between, the same plan is repeated under the same tokens. What the server or an
operator has to mend is waited out; what the data causes is cut in halves down to the bad record,
which becomes a dead letter. Each cut is committed before the halves are inserted, so that a part
is never inserted both whole and in halves.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final, TypeVar

from ingest import metrics
from ingest.backoff import Backoff
from ingest.dead_letters import DeadLetterLimits, bury
from ingest.ingested import append_ingested
from ingest.inserts import INSERT_SECONDS_MAX, Inserts
from ingest.log import EndlessLease, Lease, LostPartition, Record, TelemetryLog
from ingest.plans import (
    DEFAULT_WINDOW,
    UNREADABLE,
    Group,
    GroupKey,
    NewerRelease,
    Noted,
    Passed,
    Plan,
    PlannedRecord,
    Progress,
    RetryWindow,
    from_metadata,
    grouped,
    insert_token,
    new_plan,
    read_headers,
    to_metadata,
)
from ingest.ranges import BatchLimits, Ranges
from ingest.recovery import (
    end_of_the_known,
    lost_from,
    passed,
    position_without_commit,
    report_deleted,
)
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
ENDLESS: Final = EndlessLease()
# How often a writer that may not insert looks whether it may.
LEASE_SECONDS: Final = 0.1
# How often a partition is compared with what it was, besides when its leader changes.
LOOK_BACK_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Position:
    """What is committed: where to go on, what was done so far, and the plan under way."""

    offset: int
    progress: Progress
    last: Passed | None = None
    plan: Plan | None = None
    incarnation: str = ""


class PartitionWriter:
    """Writes one partition; owned by one task.

    Nothing is inserted while the lease is not held (I10), and nothing is committed once it is lost.
    Insert and plan are repeatable, so an insert that slips through does no harm either.
    """

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
        window: RetryWindow = DEFAULT_WINDOW,
        lease: Lease = ENDLESS,
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
        self._window = window
        self._lease = lease
        self._seen = SeenRequests(window)
        self._position: _Position | None = None
        self._look_back_at = 0.0
        # Until then an INSERT whose outcome nobody knows may still take effect.
        self._in_doubt_until = 0.0

    @property
    def retry_window_seconds(self) -> float:
        """How far back repeated requests are recognised at present."""
        return self._seen.reaches_back_seconds()

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
        groups = grouped(kept)
        await self._ensure_tenants(_tenants_of(groups))
        for group in groups:
            position.plan = await self._store(position, position.plan, group)
        crash_point("writer.after_insert_before_commit")
        await self._finish(position, position.plan, planned, kept)
        crash_point("writer.after_commit")
        return True

    async def _recover(self) -> _Position:
        """What the last process left, compared with what the log is now."""
        self._check_lease()
        place = (self._topic, self._partition)
        committed = await self._log.committed(WRITER_GROUP, *place)
        incarnation = await self._log.incarnation(self._topic)
        if committed is None:
            offset = await position_without_commit(self._log, *place)
            position = _Position(offset, Progress(), incarnation=incarnation)
        else:
            try:
                noted = from_metadata(committed.offset, committed.metadata)
            except Invalid as error:
                raise NewerRelease(f"{self._topic}/{self._partition}: {error}") from error
            position = _Position(committed.offset, noted.progress, noted.last, noted.plan)
            position.incarnation = noted.incarnation or incarnation
            await self._go_back_to_the_known(position)
        if position.plan is not None:
            # The last process may have sent it, and it may be under way.
            self._in_doubt_until = monotonic() + INSERT_SECONDS_MAX
            await report_deleted(self._log, *place, position.plan.start, position.plan.end + 1)
        self._seen = SeenRequests(position.plan.window if position.plan else self._window)
        await self._seen.read_back(self._log, *place, position.offset)
        return position

    async def _go_back_to_the_known(self, position: _Position) -> bool:
        """Mend *position* if the log has other records than it had; whether it was mended."""
        known = (position.incarnation, position.last)
        end = await end_of_the_known(self._log, self._topic, self._partition, *known)
        if end is None:
            return False
        position.offset, position.last, position.plan = min(end, position.offset), None, None
        position.incarnation = await self._log.incarnation(self._topic)
        return True

    async def _planned(self, position: _Position) -> list[Record]:
        """The records of the plan under way, or of a new one that is committed first."""
        plan = position.plan
        if plan is not None:
            return await self._planned_again(position, plan)
        records = await self._ranges.next_records(position.offset)
        if self._is_doubtful(position, records) and await self._go_back_to_the_known(position):
            return []
        if not records:
            return []
        crash_point("writer.after_poll")
        plan = new_plan(self._source(position), records, self._seen.window)
        if plan.start > position.offset:
            place = (self._topic, self._partition)
            await report_deleted(self._log, *place, position.offset, plan.start)
        # Offsets that hold nothing (retention, damage) before the first record are passed here.
        await self._commit(plan.start, position, plan)
        position.plan = plan
        crash_point("writer.after_plan_commit")
        return records

    async def _planned_again(self, position: _Position, plan: Plan) -> list[Record]:
        """Exactly the records of a plan that was made before.

        To insert fewer under its token, and pass the rest, would lose them.
        """
        records = await self._ranges.planned_records(plan.start, plan.end)
        if not records or records[-1].offset < plan.end:
            place = (self._topic, self._partition)
            _first, end = await self._log.bounds(*place)
            if end <= plan.end:
                await lost_from(self._log, *place, plan.end, plan.epoch)
                # What is left of it is planned anew: it may be stored already, but is not lost.
                position.plan = None
                return []
        return records

    def _is_doubtful(self, position: _Position, records: Sequence[Record]) -> bool:
        """Whether the log may have lost what was read of it: another leader, or now and then."""
        now = monotonic()
        if now >= self._look_back_at:
            self._look_back_at = now + LOOK_BACK_SECONDS
            return True
        last = position.last
        return bool(records) and last is not None and records[0].epoch != last.epoch

    async def _opened(self, records: Sequence[Record]) -> list[PlannedRecord]:
        return [read_headers(record) for record in records]

    async def _store(self, position: _Position, plan: Plan, group: Group) -> Plan:
        """Insert what *plan* still has to do of *group*; the plan as it stands then."""
        refusal = Invalid("ClickHouse refused it; the writer died before it noted why")
        while (bounds := plan.bounds_of(group.key)) is not None and len(bounds) > 1:
            part = group.between(plan.start + bounds[0], plan.start + bounds[1])
            if len(part) == 1 and part[0].record.offset in plan.buried:
                await self._bury(part[0], refusal, self._source(position))
                plan = plan.cut_at(group.key, bounds[1:])
            else:
                token = insert_token(plan, group.key, bounds[0], bounds[1])
                refused = await self._insert(group.key, part, token)
                if refused is None:
                    plan = plan.cut_at(group.key, bounds[1:])
                    continue
                if await self._waited_out_doubt():
                    continue
                if len(part) == 1 and not self._dead_letter_limits.allows_another():
                    await self._pause("dead_letters", _too_many(refused))
                    continue
                refusal = part[0].refusal or refused
                plan = _cut(plan, group.key, part, bounds)
            await self._commit_patiently(plan.start, position, plan)
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
            # Outside of the slots: partitions that are held must not wait for those that are not.
            while not self._lease.held():
                self._check_lease()
                await self._sleep(LEASE_SECONDS)
            async with self._insert_slots:
                if not self._lease.held():
                    raise Unavailable("the group of writers is not heard of")
                crash_point("writer.before_insert")
                try:
                    await self._inserts.insert(key, part, token)
                except (Unavailable, SchemaMismatch):
                    self._in_doubt_until = monotonic() + INSERT_SECONDS_MAX
                    raise

        try:
            await self._patiently(insert)
        except Invalid as refusal:
            return refusal
        self._dead_letter_limits.stored(len(part))
        return None

    async def _waited_out_doubt(self) -> bool:
        """Whether it had to be waited until an earlier INSERT of the range is over.

        A range that is cut while it may still be stored whole could be stored twice. Once that is
        over, the whole is tried again: its token says whether it was stored.
        """
        left = self._in_doubt_until - monotonic()
        if left <= 0:
            return False
        logger.warning(
            "%s/%d: an INSERT that was refused may be under way still; it is tried again in %.0f s",
            *(self._topic, self._partition, left),
        )
        self._in_doubt_until = 0.0
        await self._sleep(left)
        return True

    async def _bury(self, one: PlannedRecord, refusal: Invalid, source: str) -> None:
        record, table = one.record, one.info.table if one.info else ""

        async def append() -> None:
            try:
                await bury(self._log, record, table, str(refusal), source)
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
        planned: Sequence[PlannedRecord],
        kept: Sequence[PlannedRecord],
    ) -> None:
        """Tell what became of the rows, then pass the plan."""
        stored = [one for one in kept if one.record.offset not in plan.buried]
        dead = [one for one in kept if one.record.offset in plan.buried]
        stored_rows, kept_rows = _rows(stored), _rows(kept)
        await self._patiently(
            lambda: append_ingested(
                self._log,
                {"read": planned, "stored": stored, "dead": dead},
                topic=self._topic,
                partition=self._partition,
                incarnation=position.incarnation,
                start=plan.start,
                end=plan.end,
                token=plan.token,
            )
        )
        progress = Progress(
            position.progress.stored + stored_rows,
            position.progress.dead + kept_rows - stored_rows,
            position.progress.repeated + _rows(planned) - kept_rows,
        )
        last = passed(planned[-1].record) if planned else position.last
        done = _Position(plan.end + 1, progress, last, incarnation=position.incarnation)
        await self._commit_patiently(done.offset, done, None)
        # A plan of a release with other settings was repeated with its own window.
        self._position = done if self._seen.window == self._window else None

    async def _commit_patiently(self, offset: int, position: _Position, plan: Plan | None) -> None:
        await self._patiently(lambda: self._commit(offset, position, plan))

    async def _commit(self, offset: int, position: _Position, plan: Plan | None) -> None:
        self._check_lease()
        noted = Noted(position.progress, plan, position.last, position.incarnation)
        metadata = to_metadata(noted)
        await self._log.commit(WRITER_GROUP, self._topic, self._partition, offset, metadata)

    def _source(self, position: _Position) -> str:
        """Where offsets count: equal ones of another log, or of a topic made anew, are others."""
        return f"{self._log.identity}/{position.incarnation}"

    def _check_lease(self) -> None:
        if self._lease.lost:
            raise LostPartition(f"{self._topic}/{self._partition} is another writer's by now")

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


def _rows(records: Iterable[PlannedRecord]) -> int:
    return sum(one.rows for one in records)


def _tenants_of(groups: Sequence[Group]) -> list[str]:
    records = (one for group in groups for one in group.records)
    return sorted({entry.tenant for one in records if one.info for entry in one.info.tenants})
