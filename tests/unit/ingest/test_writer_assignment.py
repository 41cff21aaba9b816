"""A writer follows what its group assigns: it takes up, hands over, and lets go."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from ingest.log import EndlessLease, LostPartition, Record
from ingest.partition_writer import WRITER_GROUP
from ingest.plans import GroupKey, PlannedRecord
from ingest.ranges import BatchLimits
from ingest.signals import TOPIC_OF_SIGNAL, Signal
from ingest.writer import Writer
from tests.fakes import MemoryInserts, MemoryLog, block

TOPIC = TOPIC_OF_SIGNAL[Signal.LOGS]
FIRST, SECOND = (TOPIC, 0), (TOPIC, 1)
Place = tuple[str, int]


class Group:
    """An assignment that the test decides."""

    def __init__(self) -> None:
        self.now: frozenset[Place] = frozenset()
        self.held: frozenset[Place] = frozenset()
        self.released: list[frozenset[Place]] = []
        self._changed = asyncio.Event()

    def assign(self, *places: Place) -> None:
        self.now = frozenset(places)
        self.held |= self.now
        self._changed.set()

    def assigned(self) -> frozenset[Place]:
        return self.now

    def revoked(self) -> frozenset[Place]:
        return self.held - self.now

    def lease(self, topic: str, partition: int) -> EndlessLease:
        return EndlessLease()

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def release(self, places: Iterable[Place]) -> None:
        self.released.append(frozenset(places))
        self.held -= frozenset(places)

    async def close(self) -> None:
        return None


class SharedLog(MemoryLog):
    """A log in memory whose partitions are shared by *group*."""

    def __init__(self, group: Group) -> None:
        super().__init__(partition_count=2)
        self.group = group
        self.lost: set[Place] = set()

    async def join(self, group: str, topics: Sequence[str]) -> Group:  # type: ignore[override]
        return self.group

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
        await asyncio.sleep(0.005)
        return await super().read(
            topic,
            partition,
            from_offset,
            records_max=records_max,
            bytes_max=bytes_max,
            wait_seconds=wait_seconds,
        )

    async def commit(
        self, group: str, topic: str, partition: int, offset: int, metadata: str = ""
    ) -> None:
        if group == WRITER_GROUP and (topic, partition) in self.lost:
            raise LostPartition("it is another's")
        await super().commit(group, topic, partition, offset, metadata)


@asynccontextmanager
async def writing(log: SharedLog, inserts: MemoryInserts) -> AsyncIterator[Writer]:
    async def no_problems() -> list[object]:
        return []

    async def ensure(_tenant: str) -> None:
        return None

    writer = Writer(
        log,
        inserts,
        limits=BatchLimits(rows_max=100, bytes_max=10_000, wait_ms=0),
        find_problems=no_problems,  # type: ignore[arg-type]
        ensure_tenant=ensure,
    )
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        writer.stop()
        await asyncio.wait_for(task, 20)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_I10_only_what_is_assigned_is_written_and_what_is_revoked_is_let_go() -> None:
    group, inserts = Group(), MemoryInserts()
    log = SharedLog(group)
    log.put(*FIRST, b"a", block())
    log.put(*SECOND, b"b", block())
    async with writing(log, inserts):
        group.assign(FIRST)
        await until(lambda: inserts.values() == [b"a"])
        group.assign(SECOND)
        await until(lambda: inserts.values() == [b"a", b"b"])
        await until(lambda: group.released == [frozenset({FIRST})])
        log.put(*FIRST, b"another's", block())
        group.assign(FIRST, SECOND)
        await until(lambda: inserts.values() == [b"a", b"b", b"another's"])


async def test_I13_what_is_held_and_was_not_worked_on_is_let_go_too() -> None:
    """Else nobody could ever be given it."""
    group, inserts = Group(), MemoryInserts()
    log = SharedLog(group)
    async with writing(log, inserts) as writer:
        group.assign(FIRST)
        await until(lambda: FIRST in writer._running)
        # The work on it ends, and before it begins anew it is revoked.
        log.lost.add(FIRST)
        log.put(*FIRST, b"a", block())
        await until(lambda: FIRST not in writer._running or group.released != [])
        group.assign(SECOND)
        await until(lambda: frozenset({FIRST}) in group.released)
    assert inserts.values() == []


async def test_a_partition_that_was_lost_and_is_given_back_is_written_again() -> None:
    group, inserts = Group(), MemoryInserts()
    log = SharedLog(group)
    log.put(*FIRST, b"a", block())
    log.lost.add(FIRST)
    async with writing(log, inserts):
        group.assign(FIRST)
        await asyncio.sleep(0.1)
        assert inserts.values() == []
        log.lost.clear()
        await until(lambda: inserts.values() == [b"a"])


async def test_a_partition_whose_insert_hangs_holds_up_no_other() -> None:
    group = Group()
    log = SharedLog(group)

    class Hanging(MemoryInserts):
        async def insert(self, key: GroupKey, records: Sequence[PlannedRecord], token: str) -> None:
            if records[0].record.partition == 0:
                await asyncio.Event().wait()
            await super().insert(key, records, token)

    inserts = Hanging()
    log.put(*FIRST, b"hangs", block())
    async with writing(log, inserts) as writer:
        group.assign(FIRST, SECOND)
        for number in range(5):
            log.put(*SECOND, b"%d" % number, block())
        await until(lambda: inserts.values() == [b"%d" % number for number in range(5)])
        # The one that hangs is given up, so that the writer can stop.
        writer._running[FIRST].task.cancel()
