"""Damage of every part of the embedded log: what can be read is served, the rest is reported."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ingest.embedded_log import EmbeddedLog, Limits
from ingest.embedded_log.files import DAMAGED_FILES_MAX, OFFSETS_AHEAD
from ingest.embedded_log.layout import PAGE_BYTES, record_id
from ingest.embedded_log.wal import read_frames
from ingest.log import Committed, Record
from shared.errors import Unavailable
from tests.integration.ingest.log_polling import eventually

TOPIC = "otlp.traces.v1"
LIMITS = Limits(bytes_free_min=0, maintenance_seconds=0.05)
COUNT = 60
VALUE_BYTES = 50_000


def value_of(number: int) -> bytes:
    return b"%08d" % number + bytes([number % 251]) * VALUE_BYTES


async def opened(path: Path) -> EmbeddedLog:
    return await EmbeddedLog.open(path, partitions={TOPIC: 2}, limits=LIMITS)


async def filled(path: Path) -> EmbeddedLog:
    log = await opened(path)
    for number in range(COUNT):
        await log.append(TOPIC, 0, value_of(number), (("n", b"\x01\x00\x00\x00"),))
    await log.append(TOPIC, 1, b"neighbour", ())
    await log.commit("writer", TOPIC, 0, 10, "plan")
    return log


async def read_from(log: EmbeddedLog, offset: int, partition: int = 0) -> list[Record]:
    records: list[Record] = []
    while batch := await log.read(
        TOPIC, partition, offset, records_max=7, bytes_max=10**6, wait_seconds=0
    ):
        records += batch
        offset = batch[-1].offset + 1
    return records


def damage_at(path: Path, at: int, garbage: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(garbage)


def place_of(path: Path, needle: bytes) -> int:
    at = path.read_bytes().find(needle)
    assert at >= 0
    return at


def damaged_files(folder: Path, ending: str) -> list[bytes]:
    return [file.read_bytes() for file in folder.glob(f"log.db.damaged-*{ending}")]


def assert_genuine(records: list[Record]) -> None:
    for record in records:
        assert record.value == value_of(record.offset)
        assert record.headers == (("n", b"\x01\x00\x00\x00"),)
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))


async def test_a_flipped_byte_costs_one_record_which_is_set_aside_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.db"
    log = await filled(path)
    await log.close()
    damage_at(path, place_of(path, value_of(33)[:8]) + 100, b"?")
    log = await opened(path)
    try:
        identity = log.identity
        records = await read_from(log, 0)
        assert [record.offset for record in records] == [n for n in range(COUNT) if n != 33]
        assert_genuine(records)
        assert log.damaged_records == 1
        assert f"{TOPIC} partition 0: offset 33" in caplog.text
        assert [r.offset for r in await read_from(log, 33)] == list(range(34, COUNT))
        assert log.damaged_records == 1
        assert log.identity == identity
        assert await log.append(TOPIC, 0, value_of(COUNT), ()) == COUNT
    finally:
        await log.close()


async def test_a_damaged_record_at_the_end_does_not_hold_up_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = await filled(path)
    await log.close()
    damage_at(path, place_of(path, value_of(COUNT - 1)[:8]) + 9, b"!!")
    log = await opened(path)
    try:
        assert await read_from(log, COUNT - 1) == []
        assert await log.bounds(TOPIC, 0) == (0, COUNT)
        await log.append(TOPIC, 0, b"next", ())
        assert [record.offset for record in await read_from(log, COUNT - 1)] == [COUNT]
    finally:
        await log.close()


def _overwrite_middle(path: Path) -> None:
    middle = path.stat().st_size // PAGE_BYTES // 2
    damage_at(path, middle * PAGE_BYTES, b"\xa5" * (3 * PAGE_BYTES))


def _overwrite_beginning(path: Path) -> None:
    damage_at(path, 0, b"\xa5" * PAGE_BYTES)


def _overwrite_all_leaves_but_the_first(path: Path) -> None:
    content = path.read_bytes()
    leaves = [at for at in range(0, len(content), PAGE_BYTES) if content[at] in {0x0D, 0x05}]
    for at in leaves[1:]:
        damage_at(path, at, bytes(100))


def _cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 1_234)


def _cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def _remove(path: Path) -> None:
    path.unlink()


DAMAGES: list[Callable[[Path], None]] = [
    _overwrite_middle,
    _overwrite_beginning,
    _overwrite_all_leaves_but_the_first,
    _cut_in_half,
    _cut_to_nothing,
    _remove,
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_I13_a_log_with_a_damaged_file_serves_what_is_left_and_goes_on_by_itself(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "log.db"
    log = await filled(path)
    identity = log.identity
    await log.close()
    damage(path)
    log = await opened(path)
    try:
        records = await eventually(lambda: read_from(log, 0))
        assert_genuine(records)
        offset = await eventually(lambda: log.append(TOPIC, 0, b"after", ()))
        assert offset >= COUNT
        assert log.identity != identity
        assert (await read_from(log, offset))[-1].value == b"after"
        if damage is not _remove:
            await eventually(lambda: _set_aside(tmp_path))
    finally:
        await log.close()
    again = await opened(path)
    try:
        assert await read_from(again, 0) == [*records, *await read_from(again, offset)]
    finally:
        await again.close()


async def _set_aside(folder: Path) -> None:
    assert len(damaged_files(folder, "Z")) == 1


async def test_a_repair_keeps_commits_and_neighbours_and_tells_exactly_what_was_lost(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    log = await filled(path)
    await log.close()
    lost = 40
    at = place_of(path, value_of(lost)[:8]) // PAGE_BYTES * PAGE_BYTES
    damage_at(path, at, b"\xa5" * PAGE_BYTES)
    log = await opened(path)
    try:
        records = await eventually(lambda: _all_but(log, lost))
        assert_genuine(records)
        certain = [loss for loss in log.losses if loss.certain]
        assert [(loss.topic, loss.partition) for loss in certain] == [(TOPIC, 0)] * len(certain)
        missing = {n for loss in certain for n in range(loss.first_offset, loss.last_offset + 1)}
        assert missing == set(range(10, COUNT)) - {record.offset for record in records}
        assert await log.committed("writer", TOPIC, 0) == Committed(10, "plan")
        assert [record.value for record in await read_from(log, 0, 1)] == [b"neighbour"]
        totals = await log.totals(TOPIC, 0)
        assert (totals.records, totals.rows) == (COUNT, COUNT)
        (report,) = damaged_files(tmp_path, "Z.json")
        assert len(json.loads(report)["losses"]) == len(log.losses)
    finally:
        await log.close()


async def _all_but(log: EmbeddedLog, lost: int) -> list[Record]:
    records = await read_from(log, 0)
    offsets = {record.offset for record in records}
    # One page holds the beginnings of some eight values.
    assert len(offsets) >= COUNT - 10
    assert lost not in offsets
    return records


CRASHER = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.integration.ingest.test_embedded_log_damage import filled
async def main():
    await filled(Path(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A log whose process was killed: its last records are only in the -wal file."""
    path = tmp_path / "log.db"
    done = subprocess.run([sys.executable, "-c", CRASHER, str(path)], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert Path(f"{path}-wal").stat().st_size > COUNT * VALUE_BYTES
    return path


async def test_a_log_whose_process_was_killed_needs_no_repair(killed: Path) -> None:
    log = await opened(killed)
    try:
        records = await read_from(log, 0)
        assert [record.offset for record in records] == list(range(COUNT))
        assert_genuine(records)
        assert log.losses == []
        assert not list(killed.parent.glob("*damaged*"))
    finally:
        await log.close()


TORN = """
import asyncio, os, shutil, signal, sys
from pathlib import Path
from tests.integration.ingest.test_embedded_log_damage import TOPIC, filled
async def main():
    path = Path(sys.argv[1])
    log = await filled(path)
    shutil.copy(f"{path}.marks", f"{path}.marks.before")
    await log.append(TOPIC, 0, b"." * 20_000, ())
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@pytest.mark.parametrize("was_acknowledged", [False, True])
async def test_F03_a_commit_that_a_kill_tore_is_no_damage_unless_it_was_acknowledged(
    tmp_path: Path, was_acknowledged: bool
) -> None:
    path = tmp_path / "log.db"
    done = subprocess.run([sys.executable, "-c", TORN, str(path)], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    _tear_the_last_commit(Path(f"{path}-wal"))
    if not was_acknowledged:
        Path(f"{path}.marks.before").replace(f"{path}.marks")

    log = await opened(path)
    try:
        records = await read_from(log, 0)
        assert [record.offset for record in records] == list(range(COUNT))
        assert_genuine(records)
        certain = [loss.first_offset for loss in log.losses if loss.certain]
        assert certain == ([COUNT] if was_acknowledged else [])
        assert bool(list(path.parent.glob("*damaged*"))) == bool(log.losses) == was_acknowledged
        offset = await log.append(TOPIC, 0, b"after", ())
        assert offset > COUNT if was_acknowledged else offset == COUNT
    finally:
        await log.close()


def _tear_the_last_commit(wal: Path) -> None:
    """A frame is written in two pieces, over one of an earlier round: its header, then its page."""
    last = [frame for frame in read_frames(wal) if frame.commits][-1]
    damage_at(wal, last.image_at, os.urandom(PAGE_BYTES))


def _garbage_wal(wal: Path) -> None:
    wal.write_bytes(os.urandom(wal.stat().st_size))


def _garbage_wal_header(wal: Path) -> None:
    damage_at(wal, 0, os.urandom(32))


def _garbage_in_the_middle_of_the_wal(wal: Path) -> None:
    damage_at(wal, wal.stat().st_size // 2, os.urandom(PAGE_BYTES))


def _cut_wal_between_two_commits(wal: Path) -> None:
    """To SQLite, this is a log in perfect order."""
    commits = [frame.image_at + PAGE_BYTES for frame in read_frames(wal) if frame.commits]
    os.truncate(wal, commits[len(commits) // 2])


def _remove_wal(wal: Path) -> None:
    wal.unlink()


WAL_DAMAGES: list[Callable[[Path], None]] = [
    _cut_wal_between_two_commits,
    _remove_wal,
    _garbage_wal,
    _garbage_wal_header,
    _garbage_in_the_middle_of_the_wal,
]


@pytest.mark.parametrize("damage", WAL_DAMAGES)
async def test_a_damaged_write_ahead_log_is_noticed_and_no_offset_is_used_twice(
    killed: Path, damage: Callable[[Path], None]
) -> None:
    damage(Path(f"{killed}-wal"))
    log = await opened(killed)
    try:
        records = await read_from(log, 0)
        assert_genuine(records)
        if damage in {_garbage_wal_header, _garbage_in_the_middle_of_the_wal}:
            assert len(records) >= COUNT - 3
        offset = await log.append(TOPIC, 0, b"after", ())
        assert COUNT <= offset <= 11 * OFFSETS_AHEAD
        assert log.losses
    finally:
        await log.close()


@pytest.mark.parametrize("damage", [_garbage_wal_header, _garbage_in_the_middle_of_the_wal])
async def test_a_damaged_write_ahead_log_is_noticed_even_if_no_mark_tells_where_it_ended(
    killed: Path, damage: Callable[[Path], None]
) -> None:
    damage(Path(f"{killed}-wal"))
    os.truncate(f"{killed}.marks", 0)
    log = await opened(killed)
    try:
        assert len(await read_from(log, 0)) >= COUNT - 3
        assert await log.append(TOPIC, 0, b"after", ()) >= COUNT
    finally:
        await log.close()


def hide_record(path: Path, offset: int) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM records WHERE id = ?", (record_id(1, offset),))
    database.close()


@pytest.mark.parametrize("offset", [0, 31, COUNT - 1])
async def test_a_record_that_is_not_where_it_should_be_is_missed_and_never_passed_over(
    tmp_path: Path, offset: int
) -> None:
    path = tmp_path / "log.db"
    log = await filled(path)
    identity = log.identity
    await log.close()
    hide_record(path, offset)
    log = await opened(path)
    try:
        with pytest.raises(Unavailable, match="damaged"):
            await read_from(log, 0)
        records = await eventually(lambda: read_from(log, 0))
        assert_genuine(records)
        await eventually(lambda: _is_other(log, identity))
        missing = set(range(10, COUNT)) - {record.offset for record in records}
        certain = [loss for loss in log.losses if loss.certain]
        assert missing == {
            n for loss in certain for n in range(loss.first_offset, loss.last_offset + 1)
        }
    finally:
        await log.close()


def _torn_frame(wal: Path) -> None:
    with wal.open("ab") as file:
        file.write(bytes(10_000))


async def test_a_torn_end_of_the_write_ahead_log_is_a_power_cut_and_no_damage(
    killed: Path,
) -> None:
    _torn_frame(Path(f"{killed}-wal"))
    log = await opened(killed)
    try:
        assert len(await read_from(log, 0)) == COUNT
        assert log.losses == []
    finally:
        await log.close()


async def test_without_the_offsets_file_offsets_still_go_on_above(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = await filled(path)
    await log.close()
    damage_at(Path(f"{path}.offsets"), 0, b"{garbage")
    _overwrite_middle(path)
    log = await opened(path)
    try:
        assert len(await eventually(lambda: read_from(log, 0))) > COUNT // 2
        assert await eventually(lambda: log.append(TOPIC, 0, b"", ())) >= COUNT
    finally:
        await log.close()


async def test_damage_while_the_log_is_open_is_repaired_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = await filled(path)
    try:
        await log.close()
        log = await opened(path)
        identity = log.identity
        _overwrite_beginning(path)
        _overwrite_middle(path)
        os.truncate(path, path.stat().st_size // 4 * 3)
        records = await eventually(lambda: _some(read_from(log, 0)))
        assert_genuine(records)
        assert await eventually(lambda: log.append(TOPIC, 0, b"", ())) >= COUNT
        await eventually(lambda: _is_other(log, identity))
    finally:
        await log.close()


async def _some(reading: Awaitable[list[Record]]) -> list[Record]:
    records = await reading
    assert records
    return records


async def _is_other(log: EmbeddedLog, identity: str) -> None:
    assert log.identity != identity


async def test_a_log_that_cannot_be_repaired_yet_leaves_the_damaged_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    log = await filled(path)
    await log.close()
    _overwrite_beginning(path)
    copy = tmp_path / "copy"
    shutil.copy(path, copy)

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("ingest.embedded_log.salvage.publish_database", no_room)
        with pytest.raises(Unavailable, match="No space"):
            await opened(path)
    assert path.read_bytes() == copy.read_bytes()
    log = await opened(path)
    try:
        assert [r.offset for r in await read_from(log, 0)] == list(range(COUNT))
    finally:
        await log.close()


async def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    for number in range(DAMAGED_FILES_MAX + 2):
        log = await opened(path)
        await log.append(TOPIC, 1, b"%d" % number, ())
        await log.close()
        _overwrite_beginning(newest_generation(tmp_path))
    log = await opened(path)
    try:
        values = [record.value for record in await read_from(log, 0, 1)]
        assert values == [b"%d" % number for number in range(DAMAGED_FILES_MAX + 2)]
        assert len(damaged_files(tmp_path, "Z")) == DAMAGED_FILES_MAX
    finally:
        await log.close()


def newest_generation(folder: Path) -> Path:
    return max(folder.glob("log*.db"), key=lambda file: file.stat().st_mtime_ns)
