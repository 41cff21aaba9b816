"""Kafka as the log port asks for it (`ingest.log`)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from ingest.kafka_log.cluster import PATIENCE_SECONDS, RETRY_SECONDS, Cluster, KafkaAccess
from ingest.kafka_log.membership import Membership
from ingest.kafka_log.offsets import Member, NoMember, Offsets
from ingest.kafka_log.producer import PartitionProducer
from ingest.kafka_log.reader import Reader
from ingest.kafka_log.topics import TopicRules, ensure_topics, partition_count, topic_id
from ingest.log import (
    Backlog,
    Committed,
    EndlessLease,
    Headers,
    Lease,
    LostPartition,
    Record,
)
from ingest.metrics import LOG_APPEND_SECONDS
from shared.errors import Invalid, Unavailable

# What is under way at a stop may be finished for so long.
CLOSE_SECONDS_MAX: Final = 5.0
# Names of groups are shared with everybody on the cluster.
GROUP_PREFIX: Final = "telemetryflow-"


class KafkaLog:
    """A `TelemetryLog` in the topics of a Kafka cluster, made by `KafkaLog.open`."""

    def __init__(
        self,
        access: KafkaAccess,
        rules: TopicRules,
        *,
        session_timeout_ms: int,
        instance_id: str = "",
    ) -> None:
        # What could lose acknowledged records, where that is allowed.
        self.unsafe: list[str] = []
        self._access = access
        self._rules = rules
        self._session_timeout_ms = session_timeout_ms
        self._instance_id = instance_id
        self._cluster = Cluster(access)
        self._reader = Reader(self._cluster, topic_prefix=rules.prefix)
        self._offsets = Offsets(self._cluster)
        self._producers: dict[tuple[str, int], PartitionProducer] = {}
        self._memberships: dict[str, Membership] = {}
        self._identity = ""
        self._closing = False

    @classmethod
    async def open(
        cls,
        access: KafkaAccess,
        rules: TopicRules,
        *,
        session_timeout_ms: int = 6_000,
        instance_id: str = "",
    ) -> "KafkaLog":
        """Connects, makes the topics that are missing and verifies all.

        Raises Unavailable when the cluster cannot be reached, Conflict when a topic is unsafe.
        """
        log = cls(access, rules, session_timeout_ms=session_timeout_ms, instance_id=instance_id)
        try:
            await log._cluster.start()
            log.unsafe = await ensure_topics(log._cluster, rules)
            described = await log._cluster.patiently(lambda: log._cluster.describe([]))
            log._identity = str(described.cluster_id)
        except BaseException:
            await log.close()
            raise
        return log

    @property
    def identity(self) -> str:
        """See the port: the id of the cluster."""
        return self._identity

    async def append(self, topic: str, partition: int, value: bytes, headers: Headers) -> int:
        """See the port."""
        return (await self.append_many(topic, partition, [(value, headers)]))[0]

    async def append_many(
        self, topic: str, partition: int, records: Sequence[tuple[bytes, Headers]]
    ) -> list[int]:
        """See the port."""
        if not records:
            return []
        started = time.perf_counter()
        offsets = await self._producer(topic, partition).append(records)
        LOG_APPEND_SECONDS.observe(time.perf_counter() - started)
        return offsets

    def trouble(self) -> str | None:
        """See the port."""
        found = (one.held_up() or one.trouble for one in self._producers.values())
        return next(filter(None, found), None)

    def held_up(self, topic: str, partition: int) -> str | None:
        """See the port."""
        producer = self._producers.get((self._rules.prefix + topic, partition))
        return producer.held_up() if producer else None

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
        """See the port."""
        place = self._place(topic, partition)
        deadline = time.monotonic() + wait_seconds
        while True:
            records, from_offset = await self._reader.read(
                place, from_offset, records_max=records_max, bytes_max=bytes_max
            )
            remaining = deadline - time.monotonic()
            if records or remaining <= 0:
                return records
            await self._reader.wait(place, from_offset, remaining)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """See the port."""
        return await self._reader.bounds(self._place(topic, partition))

    async def epoch_end(self, topic: str, partition: int, epoch: int) -> int | None:
        """See the port."""
        return await self._reader.epoch_end(self._place(topic, partition), epoch)

    async def incarnation(self, topic: str) -> str:
        """See the port: the id of the topic."""
        name = self._rules.prefix + topic
        return await self._cluster.patiently(lambda: topic_id(self._cluster, name))

    async def partitions(self, topic: str) -> int:
        """See the port."""
        return await partition_count(self._cluster, self._rules.prefix + topic)

    async def join(self, group: str, topics: Sequence[str]) -> Membership:
        """See the port."""
        membership = Membership(
            self._access,
            self._group(group),
            topics,
            session_timeout_ms=self._session_timeout_ms,
            instance_id=self._instance_id,
            topic_prefix=self._rules.prefix,
        )
        await membership.start()
        self._memberships[group] = membership
        return membership

    async def commit(
        self, group: str, topic: str, partition: int, offset: int, metadata: str = ""
    ) -> None:
        """See the port."""
        if offset < 0:
            raise Invalid(f"cannot commit offset {offset}")
        place = self._place(topic, partition)
        membership = self._memberships.get(group)
        member: Member = membership or NoMember()
        # Of this moment: a partition that goes and comes back meanwhile is another matter.
        lease: Lease = membership.lease(topic, partition) if membership else EndlessLease()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._check_open()
            if lease.lost:
                raise LostPartition(f"{topic}/{partition} is another writer's by now")
            if not lease.held():
                raise Unavailable("the group of writers was not heard of lately")
            stale = await self._offsets.commit(
                self._group(group), place, Committed(offset, metadata), member
            )
            if not stale:
                return
            # The group may be settling: the generation is known in a moment, or the loss is.
            if time.monotonic() > deadline:
                raise LostPartition(f"{topic}/{partition}: the group refuses this writer's commit")
            await asyncio.sleep(RETRY_SECONDS)

    async def committed(self, group: str, topic: str, partition: int) -> Committed | None:
        """See the port."""
        place = self._place(topic, partition)
        return await self._offsets.committed(self._group(group), *place)

    async def backlog(self, group: str, topic: str) -> Backlog:
        """See the port; Kafka counts records, not rows and bytes."""
        records, oldest_ms = 0, None
        for partition in range(await self.partitions(topic)):
            first, end = await self.bounds(topic, partition)
            committed = await self.committed(group, topic, partition)
            at = max(first, committed.offset if committed else first)
            if at >= end:
                continue
            records += end - at
            oldest = await self.read(
                topic, partition, at, records_max=1, bytes_max=1, wait_seconds=0
            )
            if oldest and (oldest_ms is None or oldest[0].timestamp_ms < oldest_ms):
                oldest_ms = oldest[0].timestamp_ms
        age = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
        return Backlog(records=records, rows=None, bytes=None, age_seconds=age)

    async def close(self) -> None:
        """See the port."""
        if self._closing:
            return
        self._closing = True
        producers = self._producers.values()
        await asyncio.gather(*(one.close(CLOSE_SECONDS_MAX) for one in producers))
        await asyncio.gather(*(one.close() for one in self._memberships.values()))
        await self._reader.close()
        await self._cluster.close()

    def _producer(self, topic: str, partition: int) -> PartitionProducer:
        place = self._place(topic, partition)
        producer = self._producers.get(place)
        if producer is None:
            producer = self._producers[place] = PartitionProducer(
                self._cluster, *place, self._rules.message_bytes_min
            )
        return producer

    def _place(self, topic: str, partition: int) -> tuple[str, int]:
        self._check_open()
        wire_topic = self._rules.prefix + topic
        count = self._cluster.partitions(wire_topic)
        # A topic of which nothing is known just now is waited for by whoever needs its leader.
        if partition < 0 or (count and partition >= count):
            raise Invalid(f"topic {topic} has no partition {partition}")
        return wire_topic, partition

    def _group(self, group: str) -> str:
        return f"{self._rules.prefix}{GROUP_PREFIX}{group}"

    def _check_open(self) -> None:
        if self._closing:
            raise Unavailable("the log is closing")
