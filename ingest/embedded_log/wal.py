"""Finds damage of a write-ahead log that SQLite itself cannot tell from the end of the log.

SQLite reads a WAL up to the first frame that does not check, because a power cut leaves such an
end. Damage looks the same to it, and everything behind it, though acknowledged, would be silently
given up and its offsets handed out again. So whoever opens the file first looks at the frames
beforehand and compares with what SQLite makes of them.

Format: https://www.sqlite.org/fileformat2.html#walformat
"""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.embedded_log.layout import PAGE_BYTES
from shared.errors import Unavailable

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
FRAME_BYTES: Final = FRAME_HEADER_BYTES + PAGE_BYTES
_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">4I")
_MAGIC: Final = (0x377F0682, 0x377F0683)

# Field mxFrame of the index header, in the byte order of this machine
# (https://www.sqlite.org/walformat.html, section 2.1).
_READ_FRAMES: Final = (
    "import sys; header = open(sys.argv[1], 'rb').read(20); "
    "print(int.from_bytes(header[16:20], sys.byteorder))"
)


@dataclass(frozen=True, slots=True)
class WalFrame:
    """One frame: which page it holds, where its image begins, and the salts of its round."""

    page: int
    image_at: int
    commits: bool
    salts: tuple[int, int]


@dataclass(frozen=True, slots=True)
class WalScan:
    """What the frame headers say: the number of frames up to the commit before the last one.

    Of this round. The last commit itself may be torn without any damage: SQLite writes the header
    of a frame and then its page, over those of an earlier round, and its process may be killed in
    between. Whether its records were acknowledged is for the marks to tell; what a reader committed
    has none, so that a disk which damages just the last commit could set a reader back unnoticed.
    """

    header_holds: bool = True
    frames_certain: int = 0


@contextmanager
def wal_kept(wal: Path) -> Iterator[None]:
    """Leaves *wal* as it was if the block fails: SQLite takes it away when it closes the file.

    To be used by whoever is alone with the log. A process that dies inside is made up for here.
    """
    kept = Path(f"{wal}.kept")
    if kept.exists() and not wal.exists():
        kept.replace(wal)
    kept.unlink(missing_ok=True)
    if wal.exists():
        os.link(wal, kept)
    try:
        yield
    except BaseException:
        if kept.exists() and not wal.exists():
            kept.replace(wal)
        raise
    finally:
        kept.unlink(missing_ok=True)


def scan_wal(wal: Path) -> WalScan:
    """Looks at the headers of *wal*; a missing or empty one holds, with no frames."""
    if not wal.exists() or wal.stat().st_size == 0:
        return WalScan()
    salts = _salts_of(wal)
    if salts is None:
        return WalScan(header_holds=False)
    certain = committed = 0
    for number, frame in enumerate(read_frames(wal), 1):
        if frame.salts == salts and frame.commits:
            certain, committed = committed, number
    return WalScan(frames_certain=certain)


def frames_recovered(shm: Path) -> int:
    """The number of frames that SQLite has found good, from the index that it shares.

    Another process reads the file: closing it in this one would drop SQLite's locks on it. A
    checkpoint would tell the same, but needs room on a disk that may be full.
    """
    command = [sys.executable, "-I", "-S", "-c", _READ_FRAMES, str(shm)]
    try:
        # Our own interpreter with a text of our own: nothing in it comes from outside.
        done = subprocess.run(command, capture_output=True, timeout=10, check=True)  # noqa: S603
        return int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise Unavailable(f"the write-ahead log cannot be checked: {error}") from error


def read_frames(wal: Path) -> list[WalFrame]:
    """The frames of *wal* in file order, of whatever round, checked by nobody."""
    frames: list[WalFrame] = []
    if not wal.exists():
        return frames
    with wal.open("rb") as file:
        size = wal.stat().st_size
        for at in range(HEADER_BYTES, size - FRAME_BYTES + 1, FRAME_BYTES):
            file.seek(at)
            page, pages, *salts = _FRAME.unpack(file.read(_FRAME.size))
            image_at = at + FRAME_HEADER_BYTES
            frames.append(WalFrame(page, image_at, pages > 0, (salts[0], salts[1])))
    return frames


def _salts_of(wal: Path) -> tuple[int, int] | None:
    with wal.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    magic, _, page_bytes, _, salt_1, salt_2, *checksum = _HEADER.unpack(header)
    if magic not in _MAGIC or page_bytes != PAGE_BYTES:
        return None
    order = ">" if magic & 1 else "<"
    if checksum != _checksum(struct.unpack(f"{order}6I", header[:24])):
        return None
    return salt_1, salt_2


def _checksum(words: tuple[int, ...]) -> list[int]:
    first = second = 0
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return [first, second]
