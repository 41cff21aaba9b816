"""Repairs a damaged log: a new generation that holds every row that can still be read.

Rows are taken by their checksums from the raw pages, so nothing depends on how much of the file
SQLite would still open. Offsets go on above every offset that was ever given out, and the log's
identity changes, so no insert token of the old generation can meet data of the new one.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from ingest.embedded_log.database import (
    INSERT_RECORD,
    draft_database,
    driver_errors,
    publish_database,
    put_commit,
    put_lane,
)
from ingest.embedded_log.files import OFFSETS_AHEAD, LaneOffsets, LogFiles, durable_write
from ingest.embedded_log.layout import (
    OFFSET_BITS,
    OFFSET_MASK,
    CommitRow,
    LaneRow,
    RecordRow,
    record_id,
)
from ingest.embedded_log.pages import Column, PageReader
from shared.faults import crash_point

_Key = TypeVar("_Key")
_Row = TypeVar("_Row", RecordRow, LaneRow, CommitRow)

logger = logging.getLogger(__name__)

_TRANSACTION_BYTES_MAX: Final = 16 * 2**20
_LOSSES_LOGGED_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Loss:
    """Offsets that may have held records and could not be read: both ends are inclusive.

    `certain` is false where it is not known how far the offsets had gone.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    certain: bool


@dataclass(slots=True)
class _Found:
    """What the pages gave: newest lanes and commits, and the last record of each lane."""

    lanes: dict[int, LaneRow] = field(default_factory=dict)
    commits: dict[tuple[str, int], CommitRow] = field(default_factory=dict)
    last: dict[int, RecordRow] = field(default_factory=dict)


def salvage(files: LogFiles, what: str) -> list[Loss]:
    """Makes the next generation from the one in use; inside the lock. Blocks for as long as it
    takes to copy what is readable. Raises Unavailable or OSError, leaving all as it was.
    """
    generation = files.generation()
    source = files.database(generation)
    logger.critical("The log %s is damaged and will be repaired: %s", source, what)
    with files.repairing():
        target = files.database(generation + 1)
        draft = draft_database(target)
        try:
            with driver_errors():
                losses = _fill(draft, files, source)
        finally:
            draft.close()
        crash_point("log.before_repaired")
        publish_database(target)
    _report(files, source, what, losses)
    return losses


def _fill(draft: sqlite3.Connection, files: LogFiles, source: Path) -> list[Loss]:
    found = _Found()
    reader = PageReader(source)
    try:
        _copy_records(draft, reader, found)
    finally:
        reader.close()
    known = files.read_offsets()
    losses = []
    draft.execute("BEGIN")
    for number in sorted(found.lanes.keys() | known.keys()):
        lane = _lane_of(number, found, known)
        unused = max(_unused_offset(lane, found, known), files.marked(number))
        losses += _losses_of(lane, _note_gaps(draft, lane, unused), found)
        put_lane(draft, lane._replace(next_offset=unused))
        known[number] = LaneOffsets(*lane[:4], unused=unused + OFFSETS_AHEAD)
    for commit in found.commits.values():
        put_commit(draft, commit)
    draft.execute("COMMIT")
    files.write_offsets(known)
    return losses


def _copy_records(draft: sqlite3.Connection, reader: PageReader, found: _Found) -> None:
    size = 0
    draft.execute("BEGIN")
    for row in _checked_rows(reader):
        if isinstance(row, LaneRow):
            _keep_newest(found.lanes, row.lane, row, lambda lane: lane.next_offset)
        elif isinstance(row, CommitRow):
            _keep_newest(found.commits, (row.reader, row.lane), row, lambda commit: commit.sequence)
        else:
            size += _copy_record(draft, row, found)
        if size > _TRANSACTION_BYTES_MAX:
            size = 0
            draft.execute("COMMIT")
            draft.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            draft.execute("BEGIN")
    draft.execute("COMMIT")


def _copy_record(draft: sqlite3.Connection, row: RecordRow, found: _Found) -> int:
    before = draft.execute("SELECT time_ms FROM records WHERE id = ?", (row.id,)).fetchone()
    # Of two rows with one id, the earlier one is left from a transaction that was rolled back.
    if before is not None and before[0] >= row.time_ms:
        return 0
    draft.execute(INSERT_RECORD.replace("INSERT", "INSERT OR REPLACE"), row)
    counted = row._replace(bytes_before=row.bytes_before + len(row.value), value=b"")
    _keep_newest(found.last, row.id >> OFFSET_BITS, counted, lambda record: record.id)
    return len(row.value)


def _checked_rows(reader: PageReader) -> Iterator[RecordRow | LaneRow | CommitRow]:
    for row_id, columns in reader.rows():
        row = _row_of(row_id, columns)
        if row is not None and row.checked():
            yield row


def _row_of(row_id: int, columns: tuple[Column, ...]) -> RecordRow | LaneRow | CommitRow | None:
    rest = columns[1:]  # SQLite stores NULL for the column that is the row id
    if len(columns) == len(RecordRow._fields) and isinstance(columns[1], int):
        return RecordRow(row_id, *rest)  # type: ignore[arg-type] # the checksum tells
    if len(columns) == len(LaneRow._fields) and isinstance(columns[1], str):
        return LaneRow(row_id, *rest)  # type: ignore[arg-type] # the checksum tells
    if len(columns) == len(CommitRow._fields):
        return CommitRow(row_id, *rest)  # type: ignore[arg-type] # the checksum tells
    return None


def _keep_newest(kept: dict[_Key, _Row], key: _Key, row: _Row, age: Callable[[_Row], int]) -> None:
    before = kept.get(key)
    if before is None or age(row) > age(before):
        kept[key] = row


def _lane_of(number: int, found: _Found, known: dict[int, LaneOffsets]) -> LaneRow:
    """The lane with the highest counts that anything testifies to."""
    lane = found.lanes.get(number)
    if lane is None:
        listed = known[number]
        lane = LaneRow(number, listed.topic, listed.partition, listed.partitions)
    last = found.last.get(number)
    if last is None or last.records_before < lane.records:
        return lane
    return lane._replace(
        next_offset=max(lane.next_offset, (last.id & OFFSET_MASK) + 1),
        records=last.records_before + 1,
        rows=last.rows_before + last.rows,
        bytes=last.bytes_before,
    )


def _unused_offset(lane: LaneRow, found: _Found, known: dict[int, LaneOffsets]) -> int:
    """An offset above all that were ever given out, or committed."""
    committed = [row.next_offset for row in found.commits.values() if row.lane == lane.lane]
    listed = known.get(lane.lane)
    # Without the offsets file nothing limits how far the offsets may have gone.
    ahead = listed.unused if listed else lane.next_offset + 10 * OFFSETS_AHEAD
    return max(lane.next_offset, ahead, *committed, 0)


def _note_gaps(draft: sqlite3.Connection, lane: LaneRow, unused: int) -> list[tuple[int, int]]:
    """Lists every offset that has no record, so that reading can tell loss from damage."""
    expected = lane.first_offset
    # What retention had deleted may still have stood in free pages.
    low = record_id(lane.lane, 0)
    draft.execute("DELETE FROM records WHERE id >= ? AND id < ?", (low, low + expected))
    gaps = []
    kept = draft.execute(
        "SELECT id FROM records WHERE id >= ? AND id < ? ORDER BY id",
        (low, record_id(lane.lane + 1, 0)),
    )
    for (identifier,) in kept:
        offset = identifier & OFFSET_MASK
        if offset > expected:
            gaps.append((expected, offset - 1))
        expected = offset + 1
    if unused > expected:
        gaps.append((expected, unused - 1))
    rows = [(lane.lane, first, last) for first, last in gaps]
    draft.executemany("INSERT INTO gaps VALUES (?, ?, ?)", rows)
    return gaps


def _losses_of(lane: LaneRow, gaps: list[tuple[int, int]], found: _Found) -> list[Loss]:
    """Gaps from the lowest commit on, split where it is not known that there were records."""
    commits = [row.next_offset for row in found.commits.values() if row.lane == lane.lane]
    unread = min(commits, default=0)
    losses = []
    for first, last in gaps:
        for low, high, certain in (
            (max(first, unread), min(last, lane.next_offset - 1), True),
            (max(first, lane.next_offset, unread), last, False),
        ):
            if low <= high:
                losses.append(Loss(lane.topic, lane.partition, low, high, certain))
    return losses


def _report(files: LogFiles, source: Path, what: str, losses: list[Loss]) -> None:
    """Tells the log of the product, and leaves a file for the operator."""
    for loss in [loss for loss in losses if loss.certain][:_LOSSES_LOGGED_MAX]:
        logger.critical(
            "Lost of topic %s partition %d: offsets %d to %d",
            loss.topic,
            loss.partition,
            loss.first_offset,
            loss.last_offset,
        )
    report = {"file": source.name, "damage": what, "losses": [asdict(loss) for loss in losses]}
    name = f"{files.damaged_name(time.time())}.json"
    try:
        durable_write(Path(name), json.dumps(report, indent=1).encode())
    except OSError as error:
        logger.warning("The report of the repair could not be written: %s", error)
    logger.critical("The log %s was repaired; the report is %s", source, name)
