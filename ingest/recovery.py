"""Where a writer goes on in a partition, and what it does when the log is not what it was.

Nothing is skipped silently: unread records that retention has deleted, a log that lost its end,
one that was made anew, and offsets that are gone are each reported and counted.
"""

import logging
from typing import Final

import orjson

from ingest import metrics
from ingest.log import Record, TelemetryLog, records_between
from ingest.plans import Passed
from ingest.signals import INGESTED_TOPIC
from shared.errors import Unavailable

# How many documents are looked through at a time, from the last one back.
_DOCUMENTS_AT_ONCE: Final = 1_000

logger = logging.getLogger(__name__)


def passed(record: Record) -> Passed:
    """What to remember of a record that was passed."""
    return Passed(record.offset, record.timestamp_ms, record.epoch)


async def end_of_the_known(
    log: TelemetryLog, topic: str, partition: int, known: str, last: Passed | None
) -> int | None:
    """None when *last* still stands where it stood, or was deleted by retention.

    Otherwise the offset from which on the log holds other records than it did: it lost its end,
    or was made anew (then that is its beginning). *known* is the incarnation that it had.
    """
    incarnation = await log.incarnation(topic)
    first, end = await log.bounds(topic, partition)
    if incarnation != known:
        _report("recreated", 0, f"{topic}/{partition} is another log than before: it was made anew")
        return first
    if last is None or last.offset < first:
        return None
    if last.offset < end:
        found = await log.read(
            topic, partition, last.offset, records_max=1, bytes_max=1, wait_seconds=0
        )
        # A record that is damaged is left out of reads: that is no other log.
        if not found or found[0].offset != last.offset or passed(found[0]) == last:
            return None
    return max(first, await lost_from(log, topic, partition, last.offset, last.epoch))


async def lost_from(log: TelemetryLog, topic: str, partition: int, offset: int, epoch: int) -> int:
    """From which offset on the log lost its records, given that *offset* of *epoch* is not there.

    Raises Unavailable when it is not lost: a leader that was just elected may not show all of its
    records yet.
    """
    end = await log.epoch_end(topic, partition, epoch)
    if end is not None and end > offset:
        raise Unavailable(f"{topic}/{partition} does not show record {offset} yet")
    if end is None:
        _first, end = await log.bounds(topic, partition)
    _report(
        "truncated",
        offset + 1 - min(end, offset),
        f"{topic}/{partition} lost its acknowledged records from offset {end} on: a replica that "
        "had not got them was elected, or a disk was lost",
    )
    return min(end, offset)


async def position_without_commit(log: TelemetryLog, topic: str, partition: int) -> int:
    """Where to go on when nothing is committed: at the beginning, unless something was stored.

    A group's offsets can be deleted or expire. What was stored was told in `telemetry.ingested.v1`.
    """
    first, end = await log.bounds(topic, partition)
    told = await _last_told(log, topic, partition)
    if told is None:
        return first
    stored_end, told_at_ms = told
    found = await log.read(topic, partition, stored_end, records_max=1, bytes_max=1, wait_seconds=0)
    if stored_end >= end or (found and found[0].timestamp_ms > told_at_ms):
        _report("recreated", 0, f"{topic}/{partition} is another log than before: it was made anew")
        return first
    _report(
        "offsets",
        0,
        f"the committed offset of {topic}/{partition} is gone; the writer goes on behind offset "
        f"{stored_end}, the last that it told to have stored",
    )
    return max(first, stored_end + 1)


async def report_deleted(
    log: TelemetryLog, topic: str, partition: int, want: int, got: int
) -> None:
    """Report unread records between *want* and *got* if retention has deleted them."""
    first, _end = await log.bounds(topic, partition)
    deleted = min(first, got) - want
    if deleted > 0:
        _report(
            "retention",
            deleted,
            f"{topic}/{partition}: {deleted} records from offset {want} on were deleted by "
            "retention before they were stored: have writers keep up, or keep the log for longer",
        )


async def _last_told(log: TelemetryLog, topic: str, partition: int) -> tuple[int, int] | None:
    """The end of the last range that was told as stored, and when."""
    place = partition % await log.partitions(INGESTED_TOPIC)
    first, end = await log.bounds(INGESTED_TOPIC, place)
    while end > first:
        start = max(first, end - _DOCUMENTS_AT_ONCE)
        found = None
        async for record in records_between(log, INGESTED_TOPIC, place, start, end):
            said = orjson.loads(record.value)
            if said["topic"] == topic and said["partition"] == partition:
                found = int(said["end"]), record.timestamp_ms
        if found is not None:
            return found
        end = start
    return None


def _report(reason: str, records: int, text: str) -> None:
    logger.error("%s", text)
    metrics.LOG_ANOMALIES.labels(reason).inc()
    metrics.RECORDS_LOST.labels(reason).inc(records)
