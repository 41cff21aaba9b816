"""From one log into another: what the embedded log still holds, moved into Kafka, each record once.

The plan that a writer left unfinished is carried out first, since its rows may be stored already;
what comes behind it is copied. Each copy says where it came from, so a run that was interrupted
goes on behind the last copy that it finds.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ingest.dead_letters import REPLAY_GROUP
from ingest.log import Record, TelemetryLog, records_between
from ingest.partition_writer import WRITER_GROUP
from ingest.plans import from_metadata
from ingest.signals import DEAD_LETTER_TOPIC, TOPIC_OF_SIGNAL

ORIGIN_HEADER: Final = "o"
# How far back a copy is looked for: others may have appended behind it.
LOOK_BACK_RECORDS: Final = 10_000

logger = logging.getLogger(__name__)

FinishPlan = Callable[[str, int], Awaitable[object]]


async def drain(source: TelemetryLog, target: TelemetryLog, finish_plan: FinishPlan) -> int:
    """Copy all that is not yet stored, and the dead letters; how many records were copied.

    *finish_plan* carries out the unfinished plan of a topic and partition. Nothing may be written
    to *source*, nor its records stored, meanwhile.
    """
    copied = 0
    for topic in (*TOPIC_OF_SIGNAL.values(), DEAD_LETTER_TOPIC):
        group = REPLAY_GROUP if topic == DEAD_LETTER_TOPIC else WRITER_GROUP
        for partition in range(await source.partitions(topic)):
            if group == WRITER_GROUP and await _has_plan(source, topic, partition):
                await finish_plan(topic, partition)
            copied += await _drain_partition(source, target, group, topic, partition)
    return copied


async def _has_plan(source: TelemetryLog, topic: str, partition: int) -> bool:
    committed = await source.committed(WRITER_GROUP, topic, partition)
    if committed is None:
        return False
    return from_metadata(committed.offset, committed.metadata).plan is not None


async def _drain_partition(
    source: TelemetryLog, target: TelemetryLog, group: str, topic: str, partition: int
) -> int:
    committed = await source.committed(group, topic, partition)
    first, end = await source.bounds(topic, partition)
    at = max(first, committed.offset if committed else first)
    into = partition % await target.partitions(topic)
    origin = f"{source.identity}/{partition}/"
    at = max(at, 1 + await _last_copy(target, topic, into, origin))
    copied = 0
    async for record in records_between(source, topic, partition, at, end):
        header = (ORIGIN_HEADER, f"{origin}{record.offset}".encode())
        await target.append(topic, into, record.value, (*record.headers, header))
        copied += 1
        at = record.offset + 1
    # The metadata stays: it says what was stored before.
    metadata = committed.metadata if committed else ""
    await source.commit(group, topic, partition, at, metadata)
    return copied


async def _last_copy(target: TelemetryLog, topic: str, partition: int, origin: str) -> int:
    """The highest offset of the source that was copied before, -1 if none was."""
    first, end = await target.bounds(topic, partition)
    start = max(first, end - LOOK_BACK_RECORDS)
    copies = [
        _copied_offset(record, origin)
        async for record in records_between(target, topic, partition, start, end)
    ]
    return max(copies, default=-1)


def _copied_offset(record: Record, origin: str) -> int:
    text = dict(record.headers).get(ORIGIN_HEADER, b"").decode(errors="replace")
    return int(text.removeprefix(origin)) if text.startswith(origin) else -1
