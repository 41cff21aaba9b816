"""Deletes what was read and is old, in small steps; never what somebody still has to read."""

import time
from collections.abc import Callable
from itertools import takewhile
from typing import Final

from ingest.embedded_log.database import driver_errors, put_lane
from ingest.embedded_log.layout import OFFSET_MASK, PAGE_BYTES, LaneRow, record_id
from ingest.embedded_log.limits import Limits
from ingest.embedded_log.store import Store

# One step holds the lock for some milliseconds: a deletion reads its record's chain of pages.
STEP_RECORDS_MAX: Final = 64
STEP_PAGES_FREED_MAX: Final = 2_048

# Free pages worth keeping for the next records, rather than giving them back to the disk.
FREE_BYTES_KEPT: Final = 64 * 2**20


def delete_step(store: Store, limits: Limits, *, bytes_wanted: int = 0) -> bool:
    """Deletes some records that retention lets go; True if there may be more to do.

    Where *bytes_wanted* more would pass the size limit, age counts for less, and what is from the
    future (a clock was wrong) counts as old: it would hold the space until then.

    To be called inside the lock, outside a transaction.
    """
    now_ms = time.time_ns() // 1_000_000
    old_ms = now_ms - int(limits.retention_hours * 3_600_000)
    pressed = store.bytes_used() + bytes_wanted > limits.retention_bytes
    if pressed:
        old_ms = max(old_ms, now_ms - int(limits.consumed_seconds_min * 1_000))

    def is_old(time_ms: int) -> bool:
        return time_ms < old_ms or (pressed and time_ms > now_ms)

    for lane, end in _deletable(store, limits):
        if _delete_old(store, lane, end, is_old):
            return True
    return _shrink_step(store)


def _deletable(store: Store, limits: Limits) -> list[tuple[LaneRow, int]]:
    """Lanes, each with the offset where its undeletable records begin; oldest records first."""
    with driver_errors():
        lowest = dict(
            store.database.execute("SELECT lane, min(next_offset) FROM commits GROUP BY lane")
        )
        found = []
        for lane in store.lane_rows():
            unread = lane.next_offset if lane.topic in limits.unread_expire else 0
            end = lowest.get(lane.lane, unread)
            first = store.first_record(lane.lane, 0)
            if first is not None and first.id < record_id(lane.lane, end):
                found.append((first.time_ms, lane, end))
    return [(lane, end) for _, lane, end in sorted(found)]


def _delete_old(store: Store, lane: LaneRow, end: int, is_old: Callable[[int], bool]) -> bool:
    """Deletes the first records of a lane, as far as they are old."""
    first = record_id(lane.lane, 0)
    with store.transaction():
        candidates = store.database.execute(
            "SELECT id, time_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (first, record_id(lane.lane, end), STEP_RECORDS_MAX),
        ).fetchall()
        old = list(takewhile(lambda record: is_old(record[1]), candidates))
        if not old:
            return False
        last = old[-1][0]
        store.database.execute("DELETE FROM records WHERE id BETWEEN ? AND ?", (first, last))
        kept = lane._replace(first_offset=(last & OFFSET_MASK) + 1)
        put_lane(store.database, kept)
        store.database.execute(
            "DELETE FROM gaps WHERE lane = ? AND last_offset < ?", (lane.lane, kept.first_offset)
        )
    return True


def _shrink_step(store: Store) -> bool:
    with driver_errors():
        free: int = store.database.execute("PRAGMA freelist_count").fetchone()[0]
        surplus = free - FREE_BYTES_KEPT // PAGE_BYTES
        if surplus <= 0:
            return False
        pages = min(surplus, STEP_PAGES_FREED_MAX)
        store.database.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        store.checkpoint()
    return surplus > pages
