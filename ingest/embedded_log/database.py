"""Makes and opens the database of one generation, and writes the small rows in it."""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ingest.embedded_log.files import LogFiles, sync_folder
from ingest.embedded_log.layout import PAGE_BYTES, SCHEMA, CommitRow, LaneRow, translated

# What a -wal file is cut back to once it was copied into the database.
WAL_BYTES_KEPT: Final = 64 * 2**20
CACHE_BYTES: Final = 8 * 2**20
# Writers exclude each other by the lock file, so SQLite's own lock is only ever held for moments.
_BUSY_SECONDS: Final = 2.0
INSERT_RECORD: Final = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


@contextmanager
def driver_errors() -> Iterator[None]:
    """Turns driver errors into Damaged or Unavailable."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error) from error


def connect(path: Path) -> sqlite3.Connection:
    """Opens a database that exists. Raises Damaged or Unavailable."""
    with driver_errors():
        database = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA wal_autocheckpoint = 0")
            database.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
            database.execute(f"PRAGMA cache_size = -{CACHE_BYTES // 1024}")
        except BaseException:
            database.close()
            raise
        return database


def make_database(files: LogFiles, path: Path) -> None:
    """Makes an empty generation, whose offsets begin where none was ever given out."""
    draft = draft_database(path)
    try:
        with driver_errors():
            for known in files.read_offsets().values():
                lane = LaneRow(known.lane, known.topic, known.partition, known.partitions)
                unused = known.unused
                put_lane(draft, lane._replace(first_offset=unused, next_offset=unused))
    finally:
        draft.close()
    publish_database(path)


def draft_database(path: Path) -> sqlite3.Connection:
    """Makes the tables in a draft beside *path*, to be filled, closed and published."""
    draft = _draft_path(path)
    for ending in ("", "-wal", "-shm"):
        Path(f"{draft}{ending}").unlink(missing_ok=True)
    draft.touch(mode=0o600)
    database = connect(draft)
    with driver_errors():
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(SCHEMA)
        identity = ("identity", secrets.token_hex(8))
        database.execute("INSERT INTO about VALUES (?, ?)", identity)
    return database


def publish_database(path: Path) -> None:
    """Gives a closed draft its name, durably."""
    _draft_path(path).replace(path)
    sync_folder(path.parent)


def _draft_path(path: Path) -> Path:
    return Path(f"{path}.new")


def put_lane(database: sqlite3.Connection, lane: LaneRow) -> None:
    """Writes a lane, new or not."""
    database.execute(
        "INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (lane) DO UPDATE SET first_offset = excluded.first_offset, "
        "next_offset = excluded.next_offset, records = excluded.records, rows = excluded.rows, "
        "bytes = excluded.bytes, checksum = excluded.checksum",
        lane.signed(),
    )


def put_commit(database: sqlite3.Connection, commit: CommitRow) -> None:
    """Writes a commit over the one of the same reader and lane; its id is given anew."""
    found = database.execute(
        "SELECT id FROM commits WHERE reader = ? AND lane = ?", (commit.reader, commit.lane)
    ).fetchone()
    if found is None:
        found = database.execute("SELECT coalesce(max(id), 0) + 1 FROM commits").fetchone()
    database.execute(
        "INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?, ?, ?, ?)",
        commit._replace(id=found[0]).signed(),
    )
