"""One SQLite connection to one generation of the log: every statement of the embedded log is here.

Synchronous and for one thread. Driver errors leave as Damaged or Unavailable, never as they are.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from os import close as close_descriptor
from pathlib import Path
from typing import Final, NamedTuple

from ingest.embedded_log.database import (
    INSERT_RECORD,
    connect,
    driver_errors,
    make_database,
    put_commit,
    put_lane,
)
from ingest.embedded_log.files import OFFSETS_AHEAD, LaneOffsets, LogFiles
from ingest.embedded_log.layout import (
    OFFSET_MASK,
    PAGE_BYTES,
    CommitRow,
    Damaged,
    LaneRow,
    RecordRow,
    record_id,
    unpack_headers,
)
from ingest.embedded_log.wal import WalScan, frames_recovered, scan_wal, wal_kept
from ingest.log import Backlog, Committed, Record, Totals
from shared.errors import Invalid
from shared.faults import crash_point

DAMAGED_RECORDS_MAX: Final = 1_000
_RESTART_TRIES_MAX: Final = 20
_RESTART_PAUSE_SECONDS: Final = 0.005


class NewRecord(NamedTuple):
    """A record to append: packed headers, the rows that it counts for, and its value."""

    headers: bytes
    rows: int
    value: bytes


class Read(NamedTuple):
    """What a read found: good records, row ids of damaged ones, and where to go on."""

    records: list[Record]
    damaged: list[int]
    next_offset: int


class Store:
    """An open generation of the log. Made by `Store.open`, inside the lock of *files*."""

    def __init__(self, database: sqlite3.Connection, files: LogFiles, users: int) -> None:
        self.database = database
        self.stamp = files.stamp()
        self._files = files
        self._users = users
        self._offsets = files.read_offsets()
        self._lanes: dict[tuple[str, int], int] = {}
        self._partitions: dict[str, int] = {}
        self._appended: dict[int, int] = {}
        self.identity = ""

    @classmethod
    def open(cls, files: LogFiles) -> "Store":
        """Opens the generation in use, or makes the first one. Raises Damaged, Unavailable."""
        if files.generation() == 0:
            make_database(files, files.database(1))
        files.settle()
        generation = files.generation()
        users, alone = files.use(generation)
        wal = Path(f"{files.database(generation)}-wal")
        with wal_kept(wal) if alone else nullcontext():
            return cls._open_checked(files, users, scan_wal(wal) if alone else WalScan())

    @classmethod
    def _open_checked(cls, files: LogFiles, users: int, found: WalScan) -> "Store":
        database = files.database(files.generation())
        try:
            if not found.header_holds:
                raise Damaged("the header of the write-ahead log does not check")
            store = cls(connect(database), files, users)
        except BaseException:
            close_descriptor(users)
            raise
        store._prepare(found.frames_certain, Path(f"{database}-shm"))
        return store

    def _prepare(self, frames_min: int, shm: Path) -> None:
        try:
            with driver_errors():
                # Beginning to read makes SQLite recover the WAL; it then tells how far it got.
                self.identity = self._about("identity")
                frames = frames_recovered(shm) if frames_min else 0
                if frames < frames_min:
                    raise Damaged(f"write-ahead log of {frames_min} frames breaks off at {frames}")
                self._load_lanes()
                self._check_marks()
        except BaseException:
            self.close()
            raise

    def _check_marks(self) -> None:
        """Raises Damaged if a lane ends before what was acknowledged, or is not there at all."""
        ends = {lane.lane: lane.next_offset for lane in self.lane_rows()}
        for lane in ends.keys() | self._offsets.keys():
            end, marked = ends.get(lane, 0), self._files.marked(lane)
            if end < marked:
                raise Damaged(f"lane {lane} ends at {end}, was at {marked}")

    def close(self) -> None:
        """Closes the file; safe on a damaged one."""
        self.database.close()
        close_descriptor(self._users)

    def current(self) -> bool:
        """Whether this is still the generation in use."""
        return self.stamp == self._files.stamp()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends; inside the lock of the files."""
        self._appended.clear()
        with driver_errors():
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield
                crash_point("log.before_commit")
                self.database.execute("COMMIT")
            except BaseException:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                self._lanes.clear()
                self._partitions.clear()
                raise
        crash_point("log.after_commit")
        for lane, next_offset in self._appended.items():
            self._files.mark(lane, next_offset)

    # --- topics and lanes ----------------------------------------------------------------------

    def add_topics(self, partitions: Mapping[str, int]) -> None:
        """Makes the topics that do not exist yet; inside a transaction."""
        for topic, count in partitions.items():
            if not self.partitions(topic):
                self._add_topic(topic, count)

    def partitions(self, topic: str) -> int:
        """Number of partitions, 0 for a topic that does not exist."""
        if topic not in self._partitions:
            self._load_lanes()
        return self._partitions.get(topic, 0)

    def lane(self, topic: str, partition: int) -> int | None:
        """The lane of a partition; None if the topic does not exist. Raises Invalid."""
        count = self.partitions(topic)
        if not 0 <= partition < max(count, 1):
            raise Invalid(f"topic {topic} has {count} partitions, there is no {partition}")
        return self._lanes.get((topic, partition))

    def _load_lanes(self) -> None:
        with driver_errors():
            lanes = self.lane_rows()
        self._lanes = {(lane.topic, lane.partition): lane.lane for lane in lanes}
        self._partitions = {lane.topic: lane.partitions for lane in lanes}

    def lane_rows(self) -> list[LaneRow]:
        """Every lane. Raises Damaged if one does not check."""
        lanes = [LaneRow(*row) for row in self.database.execute("SELECT * FROM lanes")]
        if not all(lane.checked() for lane in lanes):
            raise Damaged("a row of lanes does not check")
        return lanes

    def _lane_row(self, lane: int) -> LaneRow:
        found = self.database.execute("SELECT * FROM lanes WHERE lane = ?", (lane,)).fetchone()
        row = LaneRow(*found) if found else None
        if row is None or not row.checked():
            raise Damaged(f"lane {lane} is missing or does not check")
        return row

    def _add_topic(self, topic: str, count: int) -> None:
        first = self.database.execute("SELECT coalesce(max(lane), 0) + 1 FROM lanes").fetchone()[0]
        for partition in range(count):
            lane = LaneRow(first + partition, topic, partition, count)
            self._reserve_offsets(lane)
            put_lane(self.database, lane)
        self._load_lanes()

    def _reserve_offsets(self, lane: LaneRow) -> None:
        known = self._offsets.get(lane.lane)
        if known is not None and known.topic == lane.topic and lane.next_offset <= known.unused:
            return
        self._offsets = self._files.read_offsets()
        unused = lane.next_offset + OFFSETS_AHEAD
        self._offsets[lane.lane] = LaneOffsets(*lane[:4], unused=unused)
        self._files.write_offsets(self._offsets)

    # --- appending and committing --------------------------------------------------------------

    def append(
        self, topic: str, partition: int, records: Sequence[NewRecord], now_ms: int
    ) -> list[int]:
        """Appends within a transaction; the offsets are final once that has ended."""
        self.add_topics({topic: 1})
        number = self.lane(topic, partition)
        if number is None:
            raise Damaged(f"topic {topic} lost its partition {partition}")
        lane = self._lane_row(number)
        first = lane.next_offset
        for record in records:
            lane = self._append_one(lane, record, now_ms)
        self._reserve_offsets(lane)
        put_lane(self.database, lane)
        self._appended[number] = lane.next_offset
        return list(range(first, lane.next_offset))

    def _append_one(self, lane: LaneRow, record: NewRecord, now_ms: int) -> LaneRow:
        identifier = record_id(lane.lane, lane.next_offset)
        counts = (lane.records, lane.rows, lane.bytes, 0)
        row = RecordRow(identifier, now_ms, record.rows, *counts, record.headers, record.value)
        self.database.execute(INSERT_RECORD, row._replace(checksum=row.signed()))
        return lane._replace(
            next_offset=lane.next_offset + 1,
            records=lane.records + 1,
            rows=lane.rows + record.rows,
            bytes=lane.bytes + len(record.value),
        )

    def commit(self, group: str, place: tuple[str, int], offset: int, metadata: str) -> None:
        """Notes where *group* will go on in a (topic, partition); within a transaction."""
        topic, partition = place
        self.add_topics({topic: 1})
        lane = self.lane(topic, partition)
        if lane is None:
            raise Damaged(f"topic {topic} lost its partition {partition}")
        last = self._commit_row(group, lane)
        sequence = last.sequence + 1 if last else 1
        put_commit(self.database, CommitRow(0, group, lane, offset, metadata, sequence))

    def set_aside(self, identifier: int, now_ms: int) -> bool:
        """Keeps a copy of a damaged record for the operator; within a transaction.

        The record stays where it is: it is safer not to change its page. False: it was known.
        """
        copied = self.database.execute(
            "INSERT OR IGNORE INTO damaged (found_ms, record_id, time_ms, headers, value) "
            "SELECT ?, id, time_ms, headers, value FROM records WHERE id = ?",
            (now_ms, identifier),
        ).rowcount
        self.database.execute(
            "DELETE FROM damaged WHERE id <= (SELECT max(id) FROM damaged) - ?",
            (DAMAGED_RECORDS_MAX,),
        )
        return copied > 0

    def checkpoint(self) -> int:
        """Copies what the WAL holds into the database, as far as nobody reads it.

        Returns the bytes that the WAL holds; it begins at its front again once all is copied.
        """
        with driver_errors():
            answer = self.database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(answer[1]) * PAGE_BYTES

    def restart_wal(self) -> None:
        """Copies all that the WAL holds and lets it begin at its front; inside the lock.

        Gives up for this time if another checkpoint goes on for too long.
        """
        with driver_errors():
            for _ in range(_RESTART_TRIES_MAX):
                busy, *_ = self.database.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
                if not busy:
                    break
                time.sleep(_RESTART_PAUSE_SECONDS)

    # --- reading -------------------------------------------------------------------------------

    def read(
        self, place: tuple[str, int], from_offset: int, records_max: int, bytes_max: int
    ) -> Read:
        """Records of a (topic, partition) from an offset on, within both limits.

        Raises Damaged where records are missing that should be there.
        """
        number = self.lane(*place)
        if number is None:
            return Read([], [], from_offset)
        with driver_errors(), self._snapshot():
            lane = self._lane_row(number)
            expected = min(max(from_offset, lane.first_offset), OFFSET_MASK)
            offsets = self._offsets_within(lane, expected, records_max, bytes_max)
            if not offsets:
                return Read([], [], from_offset)
            read = Read([], [], offsets[-1] + 1)
            bounds = record_id(number, offsets[0]), record_id(number, offsets[-1])
            found = self.database.execute(
                "SELECT * FROM records WHERE id BETWEEN ? AND ? ORDER BY id", bounds
            )
            rows = [RecordRow._make(row) for row in found]
        if [row.id & OFFSET_MASK for row in rows] != offsets:
            raise Damaged(f"records of lane {number} are out of order")
        for row in rows:
            if row.checked():
                read.records.append(_record(place, row))
            elif row.plausible():
                read.damaged.append(row.id)
            else:
                raise Damaged(f"record {row.id} is no record")
        return read

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Several reads of one state."""
        self.database.execute("BEGIN")
        try:
            yield
        finally:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")

    def _offsets_within(
        self, lane: LaneRow, expected: int, records_max: int, bytes_max: int
    ) -> list[int]:
        """The offsets to read next. Damage of a page may hide rows, so none may be missing."""
        low, high = record_id(lane.lane, expected), record_id(lane.lane + 1, 0)
        sizes = self.database.execute(
            "SELECT id, length(value) FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (low, high, records_max),
        ).fetchall()
        offsets: list[int] = []
        size = 0
        for identifier, value_bytes in sizes:
            size += value_bytes or 0  # damage can make it NULL
            if offsets and size > bytes_max:
                break
            if not low <= identifier < high:
                raise Damaged(f"record {identifier} stands where {low} belongs")
            offset = identifier & OFFSET_MASK
            self._check_gap(lane, expected, offset)
            offsets.append(offset)
            low, expected = identifier + 1, offset + 1
        if len(offsets) == len(sizes) < records_max:
            self._check_gap(lane, expected, lane.next_offset)
        return offsets

    def _check_gap(self, lane: LaneRow, expected: int, found: int) -> None:
        """Raises Damaged unless every offset from *expected* to before *found* is known to lack."""
        if expected >= found:
            return
        gaps = self.database.execute(
            "SELECT first_offset, last_offset FROM gaps WHERE lane = ? AND last_offset >= ? "
            "ORDER BY first_offset",
            (lane.lane, expected),
        )
        for first, last in gaps:
            if first <= expected:
                expected = max(expected, last + 1)
        if expected < found:
            raise Damaged(f"lane {lane.lane} lacks the offsets {expected} to {found - 1}")

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First retained and next offset."""
        lane = self.lane(topic, partition)
        if lane is None:
            return 0, 0
        with driver_errors():
            after = self._lane_row(lane).next_offset
            first = self.first_record(lane, 0)
        return (first.id & OFFSET_MASK if first else after), after

    def first_record(self, lane: int, from_offset: int) -> RecordRow | None:
        """The first record at or behind an offset, without its headers and value."""
        found = self.database.execute(
            "SELECT id, time_ms, rows, records_before, rows_before, bytes_before, 0, x'', x'' "
            "FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            (record_id(lane, from_offset), record_id(lane + 1, 0)),
        ).fetchone()
        if found is not None and not all(isinstance(number, int) for number in found[:6]):
            raise Damaged(f"the numbers of record {found[0]} are none")
        return RecordRow(*found) if found else None

    def committed(self, group: str, topic: str, partition: int) -> Committed | None:
        """What *group* committed last."""
        lane = self.lane(topic, partition)
        if lane is None:
            return None
        with driver_errors():
            row = self._commit_row(group, lane)
        return Committed(row.next_offset, row.metadata) if row else None

    def _commit_row(self, group: str, lane: int) -> CommitRow | None:
        found = self.database.execute(
            "SELECT * FROM commits WHERE reader = ? AND lane = ?", (group, lane)
        ).fetchone()
        if found is None:
            return None
        row = CommitRow(*found)
        if not row.checked():
            raise Damaged(f"the commit of {group} on lane {lane} does not check")
        return row

    def totals(self, topic: str, partition: int) -> Totals:
        """Everything ever appended to a partition."""
        lane = self.lane(topic, partition)
        if lane is None:
            return Totals(0, 0, 0)
        with driver_errors():
            row = self._lane_row(lane)
        return Totals(row.records, row.rows, row.bytes)

    def backlog(self, group: str, topic: str, now_ms: int) -> Backlog:
        """What *group* has not committed of *topic*; costs two look-ups per partition."""
        records = rows = size = 0
        oldest_ms = now_ms
        for partition in range(self.partitions(topic)):
            commit = self.committed(group, topic, partition)
            lane = self._lanes[topic, partition]
            with driver_errors():
                first = self.first_record(lane, commit.offset if commit else 0)
                totals = self._lane_row(lane)
            if first is not None:
                records += totals.records - first.records_before
                rows += totals.rows - first.rows_before
                size += totals.bytes - first.bytes_before
                oldest_ms = min(oldest_ms, first.time_ms)
        return Backlog(records, rows, size, (now_ms - oldest_ms) / 1_000)

    def version(self) -> bytes:
        """Another one whenever some other connection has changed the log."""
        with driver_errors():
            changes = self.database.execute("PRAGMA data_version").fetchone()[0]
        return b"%s:%d" % (self.stamp, changes)

    def bytes_used(self) -> int:
        """Bytes of the pages that hold something; free pages are used again before others."""
        with driver_errors():
            pages = self.database.execute("PRAGMA page_count").fetchone()[0]
            free = self.database.execute("PRAGMA freelist_count").fetchone()[0]
        return int(pages - free) * PAGE_BYTES

    def _about(self, key: str) -> str:
        found = self.database.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise Damaged(f"the log does not know its {key}")
        return str(found[0])


def _record(place: tuple[str, int], row: RecordRow) -> Record:
    headers = unpack_headers(row.headers)
    return Record(*place, row.id & OFFSET_MASK, row.time_ms, row.value, headers)
