"""The files around the log, and the locks by which several processes share them.

    log.db                   the first generation of the log (with -wal and -shm)
    log-2.db                 the next one, made by a repair
    log.db.users             held (shared) by whoever has that generation open
    log.db.lock              held by whoever writes; tells which generation is in use
    log.db.marks             for each lane the next offset, as it was last acknowledged
    log.db.offsets           lanes, and for each an offset that was never given out yet
    log.db.damaged-<time>    a damaged generation, set aside, with a report beside it

A damaged file is never renamed while anybody has it open: SQLite finds the -wal file by name, so
the last one to close the old generation would take away the log of the new one.
"""

import fcntl
import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from shared.errors import Unavailable

# How far the offsets file runs ahead, so that it is written once in so many records. A repair that
# finds nothing readable leaves a gap of at most this many offsets.
OFFSETS_AHEAD: Final = 100_000

DAMAGED_FILES_MAX: Final = 3
REPORTS_MAX: Final = 20
_LOCK_POLL_SECONDS_MIN: Final = 0.0003
_LOCK_POLL_SECONDS_MAX: Final = 0.005
_MARK: Final = struct.Struct("<qq")
_REPAIRING: Final = b"repairing"


@dataclass(frozen=True, slots=True)
class LaneOffsets:
    """One lane as the offsets file knows it; no offset at or above `unused` was ever given out."""

    lane: int
    topic: str
    partition: int
    partitions: int
    unused: int


class LogFiles:
    """Names and locks of the log at *path*. One object per thread: the lock is not re-entrant."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

        self._marks = os.open(f"{path}.marks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Releases the lock file."""
        os.close(self._lock)
        os.close(self._marks)

    def mark(self, lane: int, next_offset: int) -> None:
        """Notes how far a lane has come, after the commit and before the answer; inside `locked`.

        It outlives the process and tells a log whose end was cut off from one that simply ends. It
        is not forced to disk each time: a power cut may set it back, which makes it no less true.
        """
        os.pwrite(self._marks, _MARK.pack(next_offset, ~next_offset), lane * _MARK.size)

    def marked(self, lane: int) -> int:
        """What was last marked, 0 if that is not known."""
        entry = os.pread(self._marks, _MARK.size, lane * _MARK.size)
        if len(entry) < _MARK.size:
            return 0
        next_offset, check = _MARK.unpack(entry)
        return next_offset if check == ~next_offset else 0

    def sync_marks(self) -> None:
        """Makes the marks outlive a power cut, too."""
        os.fdatasync(self._marks)

    @contextmanager
    def locked(self, wait_seconds: float) -> Iterator[None]:
        """Excludes all other processes; Unavailable after *wait_seconds*, or while one repairs."""
        deadline = time.monotonic() + wait_seconds
        pause = _LOCK_POLL_SECONDS_MIN
        while not _try_lock(self._lock):
            if time.monotonic() >= deadline:
                raise Unavailable(f"the log stayed locked for {wait_seconds:g} seconds")
            if self.stamp().endswith(_REPAIRING):
                raise Unavailable("the log is being repaired")
            time.sleep(pause)
            pause = min(pause * 1.5, _LOCK_POLL_SECONDS_MAX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def stamp(self) -> bytes:
        """Changes whenever another generation comes into use. Costs one system call."""
        return os.pread(self._lock, 64, 0)

    @contextmanager
    def repairing(self) -> Iterator[None]:
        """Tells those who wait for the lock not to; to be used inside `locked`."""
        self._write_stamp(self.generation(), _REPAIRING)
        try:
            yield
        finally:
            self._write_stamp(self.generation(), b"")

    def settle(self) -> None:
        """Corrects a stamp that is new, or was left by a repair that died; inside `locked`."""
        if self.stamp() != b"%d " % self.generation():
            self._write_stamp(self.generation(), b"")

    def _write_stamp(self, generation: int, state: bytes) -> None:
        stamp = b"%d %s" % (generation, state)
        os.pwrite(self._lock, stamp, 0)
        os.ftruncate(self._lock, len(stamp))

    def generation(self) -> int:
        """The number of the generation in use, 0 if there is none."""
        prefix, suffix = f"{self.path.stem}-", self.path.suffix
        numbers = [1] if self.path.exists() else [0]
        for candidate in self.path.parent.glob(f"{prefix}*{suffix}"):
            number = candidate.name.removeprefix(prefix).removesuffix(suffix)
            if number.isdecimal():
                numbers.append(int(number))
        return max(numbers)

    def database(self, generation: int) -> Path:
        """The file of one generation."""
        if generation <= 1:
            return self.path
        return self.path.with_name(f"{self.path.stem}-{generation}{self.path.suffix}")

    def use(self, generation: int) -> tuple[int, bool]:
        """Notes that this process uses a generation: (descriptor to close when done, alone?).

        To be used inside `locked`, so that nobody else can come between the two locks.
        """
        users = os.open(self._users(generation), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        alone = _try_lock(users)
        fcntl.flock(users, fcntl.LOCK_SH)
        return users, alone

    def _users(self, generation: int) -> str:
        return f"{self.database(generation)}.users"

    def put_aside_unused(self, in_use: int) -> None:
        """Renames generations before *in_use* that nobody has open any more; inside `locked`."""
        for generation in range(1, in_use):
            database = self.database(generation)
            if database.exists() and self._unused(generation):
                self._put_aside(database)
        kept_of = {"Z": DAMAGED_FILES_MAX, "Z-wal": DAMAGED_FILES_MAX, "Z.json": REPORTS_MAX}
        for ending, kept in kept_of.items():
            aside = self.path.parent.glob(f"{self.path.name}.damaged-*{ending}")
            for old in sorted(aside, reverse=True)[kept:]:
                old.unlink()

    def _unused(self, generation: int) -> bool:
        users, alone = self.use(generation)
        os.close(users)
        return alone

    def _put_aside(self, database: Path) -> None:
        aside = self.damaged_name(database.stat().st_mtime)
        for ending in ("-wal", ""):
            with suppress(FileNotFoundError):
                os.rename(f"{database}{ending}", f"{aside}{ending}")
        for ending in ("-shm", ".users"):
            Path(f"{database}{ending}").unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def damaged_name(self, seconds: float) -> Path:
        """A free name for a damaged file of that time (Unix seconds)."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
        names = (self._damaged(f"{stamp}{extra or ''}") for extra in range(10_000))
        return next(name for name in names if not name.exists())

    def _damaged(self, stamp: str) -> Path:
        return self.path.with_name(f"{self.path.name}.damaged-{stamp}Z")

    def bytes_free(self) -> int:
        """Free space of the disk that the log is on."""
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize

    def read_offsets(self) -> dict[int, LaneOffsets]:
        """The lanes by number; empty if the offsets file is missing or unreadable."""
        try:
            listed = json.loads(self._offsets.read_bytes())
            return {entry["lane"]: LaneOffsets(**entry) for entry in listed}
        except (OSError, ValueError, TypeError, KeyError):
            return {}

    def write_offsets(self, lanes: dict[int, LaneOffsets]) -> None:
        """Durably replaces the offsets file; inside `locked`. Raises OSError."""
        listed = json.dumps([asdict(lane) for lane in lanes.values()], indent=1)
        durable_write(self._offsets, listed.encode())

    @property
    def _offsets(self) -> Path:
        return Path(f"{self.path}.offsets")


def durable_write(path: Path, content: bytes) -> None:
    """Writes *path* whole or not at all, durably."""
    draft = Path(f"{path}.new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes names in *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
