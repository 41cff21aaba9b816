"""Writers on a real broker: who gets what, and what happens to the log under their feet."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.protocol.admin import DeleteGroupsRequest

from ingest import metrics
from ingest.kafka_log import KafkaLog, TopicRules
from ingest.kafka_log.membership import Fenced, Membership
from ingest.log import LostPartition
from ingest.partition_writer import WRITER_GROUP, PartitionWriter
from ingest.ranges import BatchLimits
from ingest.signals import INGESTED_TOPIC
from shared.errors import Unavailable
from tests.fakes import MemoryInserts, block
from tests.kafka.broker import Broker
from tests.kafka.fixtures import StartBroker
from tests.kafka.logs import RULES, SESSION_MS, TOPIC, opened, own_topics, until

EVERYTHING: Final = {(TOPIC, number) for number in range(3)}
# A dead member's session, and a heartbeat of the others.
TAKEOVER_SECONDS_MAX: Final = 10


def rules_with_counts() -> TopicRules:
    rules = own_topics()
    return TopicRules(
        partitions={TOPIC: 1, INGESTED_TOPIC: 1},
        replication_factor=1,
        min_insync_replicas=1,
        retention_hours=72,
        block_bytes_max=RULES.block_bytes_max,
        production=False,
        prefix=rules.prefix,
    )


async def settled(*members: Membership, shares: int = 1) -> None:
    """Everything is assigned to somebody, to so many in all, and nobody holds anything else."""

    def is_settled() -> bool:
        for member in members:
            member.release(member.revoked())
        given = [member.assigned() for member in members]
        complete = set().union(*given) == EVERYTHING and sum(map(len, given)) == len(EVERYTHING)
        return complete and sum(map(bool, given)) == shares

    await until("the group settles", is_settled)


async def changes_for_ever(member: Membership) -> None:
    while True:
        await member.changed()


async def test_F16_members_share_and_a_clean_leave_is_taken_over_at_once(kafka: Broker) -> None:
    rules = own_topics()
    async with opened(kafka.bootstrap, rules) as first, opened(kafka.bootstrap, rules) as second:
        one = await first.join(WRITER_GROUP, [TOPIC])
        await settled(one)
        other = await second.join(WRITER_GROUP, [TOPIC])
        await settled(one, other, shares=2)
        assert sorted(map(len, (one.assigned(), other.assigned()))) == [1, 2]
        (place, *_rest) = sorted(one.assigned())
        await first.commit(WRITER_GROUP, *place, 1, "note")
        with pytest.raises(LostPartition):
            await second.commit(WRITER_GROUP, *place, 2, "not mine")
        started = time.monotonic()
        await other.close()
        await settled(one)
        assert time.monotonic() - started < SESSION_MS / 1_000 + 1


async def test_to_release_nothing_does_not_unsettle_the_group(kafka: Broker) -> None:
    async with opened(kafka.bootstrap) as log:
        member = await log.join(WRITER_GROUP, [TOPIC])
        await settled(member)
        generation = member.generation
        for _ in range(20):
            member.release([])
            member.release(member.revoked())
            await asyncio.sleep(0.05)
        assert member.generation == generation


async def test_F13_what_a_dead_member_had_is_given_to_another_in_time(kafka: Broker) -> None:
    rules = own_topics()
    async with opened(kafka.bootstrap, rules) as first, opened(kafka.bootstrap, rules) as second:
        one = await first.join(WRITER_GROUP, [TOPIC])
        other = await second.join(WRITER_GROUP, [TOPIC])
        await settled(one, other, shares=2)
        lease = other.lease(*min(other.assigned()))
        # As a process that dies: no heartbeat, and no word.
        for task in other._tasks:
            task.cancel()
        started = time.monotonic()
        await settled(one)
        assert time.monotonic() - started < TAKEOVER_SECONDS_MAX
        assert not lease.held(), "nobody else may be given it while it is held"
        with pytest.raises((LostPartition, Unavailable)):
            await second.commit(WRITER_GROUP, *min(EVERYTHING), 1)


async def test_I10_a_lease_ends_while_the_broker_is_not_heard_of_and_comes_back(
    own_broker: StartBroker,
) -> None:
    broker = own_broker()
    async with opened(broker.bootstrap) as log:
        member = await log.join(WRITER_GROUP, [TOPIC])
        await settled(member)
        lease = member.lease(TOPIC, 0)
        assert lease.held()
        broker.pause()
        await until("the end of the lease", lambda: not lease.held(), SESSION_MS / 1_000 + 1)
        broker.resume()
        await until("a lease", lambda: member.lease(TOPIC, 0).held())


async def test_a_static_member_that_restarts_quickly_keeps_its_partitions(kafka: Broker) -> None:
    rules = own_topics()
    async with AsyncExitStack() as stack:
        names = ("one", "two")
        logs = [
            await stack.enter_async_context(opened(kafka.bootstrap, rules, instance_id=name))
            for name in names
        ]
        one, two = [await log.join(WRITER_GROUP, [TOPIC]) for log in logs]
        await settled(one, two, shares=2)
        before, kept = two.assigned(), one.assigned()
        await logs[1].close()
        again = await stack.enter_async_context(opened(kafka.bootstrap, rules, instance_id="two"))
        member = await again.join(WRITER_GROUP, [TOPIC])
        await until("its partitions", lambda: member.assigned() == before)
        assert one.assigned() == kept


async def test_of_two_processes_with_one_static_name_the_older_ends(kafka: Broker) -> None:
    rules = own_topics()
    async with (
        opened(kafka.bootstrap, rules, instance_id="same") as first,
        opened(kafka.bootstrap, rules, instance_id="same") as second,
    ):
        older = await first.join(WRITER_GROUP, [TOPIC])
        await settled(older)
        newer = await second.join(WRITER_GROUP, [TOPIC])
        with pytest.raises(Fenced, match="WRITER_INSTANCE_ID=same"):
            await asyncio.wait_for(changes_for_ever(older), 20)
        await until("everything", lambda: newer.assigned() == EVERYTHING)


# --- the log under a writer ----------------------------------------------------------------------


@asynccontextmanager
async def admin_of(broker: Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def writer_of(log: KafkaLog, inserts: MemoryInserts) -> PartitionWriter:
    async def nobody(_tenants: Sequence[str]) -> None:
        return None

    return PartitionWriter(
        log,
        TOPIC,
        0,
        inserts,
        limits=BatchLimits(rows_max=1_000, bytes_max=1 << 20, wait_ms=0),
        ensure_tenants=nobody,
        insert_slots=asyncio.Semaphore(1),
    )


async def step_until(writer: PartitionWriter, inserts: MemoryInserts, values: list[bytes]) -> None:
    async with asyncio.timeout(40):
        while inserts.values() != values:
            await writer.step()


async def put(log: KafkaLog, *values: bytes) -> None:
    for value in values:
        await log.append(TOPIC, 0, value, block())


async def test_F20_a_topic_that_is_deleted_and_made_anew_is_read_from_its_beginning(
    kafka: Broker,
) -> None:
    rules, inserts = rules_with_counts(), MemoryInserts()
    async with opened(kafka.bootstrap, rules) as log, admin_of(kafka) as admin:
        await put(log, b"a", b"b", b"c")
        await step_until(writer_of(log, inserts), inserts, [b"a", b"b", b"c"])
        name = rules.prefix + TOPIC
        await admin.delete_topics([name])
        await asyncio.sleep(1)
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=rules.configs())])
        await log._cluster.refresh()
    async with opened(kafka.bootstrap, rules) as log:
        await put(log, b"x", b"y")
        before = metrics.LOG_ANOMALIES.labels("recreated")._value.get()
        await step_until(writer_of(log, inserts), inserts, [b"a", b"b", b"c", b"x", b"y"])
        assert metrics.LOG_ANOMALIES.labels("recreated")._value.get() == before + 1


async def test_F30_unread_records_that_are_deleted_are_counted_and_passed(kafka: Broker) -> None:
    rules, inserts = rules_with_counts(), MemoryInserts()
    async with opened(kafka.bootstrap, rules) as log, admin_of(kafka) as admin:
        await put(log, b"a")
        writer = writer_of(log, inserts)
        await step_until(writer, inserts, [b"a"])
        await put(log, b"b", b"c", b"d")
        place = TopicPartition(rules.prefix + TOPIC, 0)
        await admin.delete_records({place: RecordsToDelete(3)})
        before = metrics.RECORDS_LOST.labels("retention")._value.get()
        await step_until(writer, inserts, [b"a", b"d"])
        assert metrics.RECORDS_LOST.labels("retention")._value.get() == before + 2


async def test_F19_offsets_that_are_gone_store_nothing_twice(kafka: Broker) -> None:
    rules, inserts = rules_with_counts(), MemoryInserts()
    async with opened(kafka.bootstrap, rules) as log:
        await put(log, b"a", b"b")
        await step_until(writer_of(log, inserts), inserts, [b"a", b"b"])
        group = f"{rules.prefix}telemetryflow-{WRITER_GROUP}"
        answer = await log._cluster.to_coordinator(
            group, DeleteGroupsRequest([group]), lane="offsets"
        )
        assert answer.results == [(group, 0)]
        assert await log.committed(WRITER_GROUP, TOPIC, 0) is None
        await put(log, b"c")
        before = metrics.LOG_ANOMALIES.labels("offsets")._value.get()
        await step_until(writer_of(log, inserts), inserts, [b"a", b"b", b"c"])
        assert metrics.LOG_ANOMALIES.labels("offsets")._value.get() == before + 1
