"""Logs in Kafka for tests: small, with topics of their own, and quick to give up a member."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from ingest.kafka_log import KafkaAccess, KafkaLog, TopicRules
from ingest.log import Record, TelemetryLog

TOPIC: Final = "otlp.traces.v1"
SESSION_MS: Final = 2_000

RULES: Final = TopicRules(
    partitions={TOPIC: 3},
    replication_factor=1,
    min_insync_replicas=1,
    retention_hours=72,
    block_bytes_max=1_000_000,
    production=False,
)


def own_topics(rules: TopicRules = RULES) -> TopicRules:
    """The same with topics and groups that no other test knows."""
    return replace(rules, prefix=f"{uuid.uuid4()}.")


@asynccontextmanager
async def opened(
    access: KafkaAccess | str, rules: TopicRules | None = None, **options: Any
) -> AsyncIterator[KafkaLog]:
    """An open log that is closed at the end."""
    if isinstance(access, str):
        access = KafkaAccess(access)
    options = {"session_timeout_ms": SESSION_MS} | options
    log = await KafkaLog.open(access, rules or own_topics(), **options)
    try:
        yield log
    finally:
        await log.close()


async def read_all(log: TelemetryLog, partition: int = 0, topic: str = TOPIC) -> list[Record]:
    """All records of a partition."""
    records: list[Record] = []
    offset, end = await log.bounds(topic, partition)
    while offset < end:
        batch = await log.read(
            topic, partition, offset, records_max=1_000, bytes_max=2**24, wait_seconds=0
        )
        if not batch:
            break
        records += batch
        offset = batch[-1].offset + 1
    return records


async def until(what: str, holds: Callable[[], bool], seconds_max: float = 30) -> None:
    """Returns as soon as *holds* does; AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds_max} s"
        await asyncio.sleep(0.02)
