"""Room: the disk fills up, the size limit is reached, retention makes room again."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.embedded_log import EmbeddedLog, Limits
from ingest.log import Record
from ingest.metrics import LOG_APPENDS_REFUSED
from shared.errors import Unavailable
from tests.integration.ingest.log_polling import eventually

TOPIC = "otlp.logs.v1"
MIB = 2**20
DISK_BYTES = 16 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, timeout=10, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount: {mounted.stderr.strip()}")
    yield folder
    unmount = ["umount", "--lazy", str(folder)]
    subprocess.run(unmount, timeout=10, check=True)


async def read_all(log: EmbeddedLog, topic: str = TOPIC) -> list[Record]:
    offset, end = await log.bounds(topic, 0)
    records: list[Record] = []
    while offset < end:
        batch = await log.read(topic, 0, offset, records_max=50, bytes_max=10 * MIB, wait_seconds=0)
        if not batch:
            break
        records += batch
        offset = batch[-1].offset + 1
    return records


async def append_until_refused(log: EmbeddedLog, value_bytes: int, appends_max: int) -> list[int]:
    """Offsets of what was acknowledged; the last append was refused."""
    offsets = []
    for number in range(appends_max):
        try:
            offsets.append(await log.append(TOPIC, 0, bytes([number % 256]) * value_bytes, ()))
        except Unavailable:
            return offsets
    raise AssertionError(f"{appends_max} appends were taken")


def fill_disk(folder: Path) -> Path:
    """Leaves no byte free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError:
            return ballast


async def assert_holds(log: EmbeddedLog, offsets: list[int]) -> None:
    records = await read_all(log)
    assert [record.offset for record in records] == offsets
    assert offsets == list(range(len(offsets)))
    for record in records[:-1]:
        assert set(record.value) == {record.offset % 256}


async def test_F49_appends_on_a_full_disk_are_refused_whole_and_go_on_when_there_is_room(
    small_disk: Path,
) -> None:
    log = await EmbeddedLog.open(small_disk / "log.db", limits=Limits(bytes_free_min=0))
    try:
        acknowledged = [await log.append(TOPIC, 0, bytes(1_000), ())]
        ballast = fill_disk(small_disk)
        refused = await asyncio.gather(
            *(log.append_many(TOPIC, 0, [(bytes(400_000), ())] * 3) for _ in range(5)),
            return_exceptions=True,
        )
        assert [type(answer) for answer in refused] == [Unavailable] * 5
        await assert_holds(log, acknowledged)
        ballast.unlink()
        offset = await eventually(lambda: log.append(TOPIC, 0, bytes(400_000), ()))
        await assert_holds(log, [*acknowledged, offset])
    finally:
        await log.close()


async def test_F49_an_append_that_fills_the_disk_itself_leaves_nothing_half_written(
    small_disk: Path,
) -> None:
    path = small_disk / "log.db"
    log = await EmbeddedLog.open(path, limits=Limits(bytes_free_min=0))
    acknowledged = await append_until_refused(log, 700_000, 60)
    assert acknowledged
    await assert_holds(log, acknowledged)
    await log.close()
    log = await EmbeddedLog.open(path, limits=Limits(bytes_free_min=0))
    try:
        await assert_holds(log, acknowledged)
        assert log.losses == []
    finally:
        await log.close()


async def test_appends_are_refused_early_so_that_the_writer_can_still_commit(
    small_disk: Path,
) -> None:
    limits = Limits(bytes_free_min=6 * MIB)
    log = await EmbeddedLog.open(small_disk / "log.db", limits=limits)
    try:
        refused = LOG_APPENDS_REFUSED.labels("disk_full")
        before = refused._value.get()
        await append_until_refused(log, 300_000, 60)
        assert refused._value.get() > before
        await log.commit("writer", TOPIC, 0, 3, "still possible")
        committed = await log.committed("writer", TOPIC, 0)
        assert committed is not None
        assert committed.offset == 3
    finally:
        await log.close()


async def test_what_nobody_has_read_is_never_deleted_by_size_but_appends_are_refused(
    tmp_path: Path,
) -> None:
    limits = Limits(
        bytes_free_min=0,
        retention_bytes=3 * MIB,
        retention_hours=0,
        consumed_seconds_min=0,
        maintenance_seconds=0.02,
    )
    log = await EmbeddedLog.open(tmp_path / "log.db", limits=limits)
    try:
        acknowledged = await append_until_refused(log, 100_000, 60)
        await asyncio.sleep(0.2)  # long enough for retention, were it allowed to
        await assert_holds(log, acknowledged)
        await log.commit("writer", TOPIC, 0, 20)
        offset = await eventually(lambda: log.append(TOPIC, 0, bytes(100_000), ()))
        records = await read_all(log)
        assert {record.offset for record in records} >= {*range(20, len(acknowledged)), offset}
        assert offset == len(acknowledged)
        totals = await log.totals(TOPIC, 0)
        assert (totals.records, totals.bytes) == (offset + 1, (offset + 1) * 100_000)
    finally:
        await log.close()


async def test_over_the_size_limit_the_oldest_consumed_records_make_room(tmp_path: Path) -> None:
    limits = Limits(bytes_free_min=0, retention_bytes=3 * MIB, consumed_seconds_min=0)
    log = await EmbeddedLog.open(tmp_path / "log.db", limits=limits)
    try:
        for number in range(200):
            assert await log.append(TOPIC, 0, bytes(100_000), ()) == number
            await log.commit("writer", TOPIC, 0, number + 1)
        first, after = await log.bounds(TOPIC, 0)
        assert after == 200
        assert 0 < first < 200
        assert await log.bytes_used() <= 4 * MIB
        assert (tmp_path / "log.db").stat().st_size < 8 * MIB
    finally:
        await log.close()


async def test_consumed_records_of_the_last_minutes_stay_even_over_the_size_limit(
    tmp_path: Path,
) -> None:
    limits = Limits(bytes_free_min=0, retention_bytes=3 * MIB, consumed_seconds_min=600)
    log = await EmbeddedLog.open(tmp_path / "log.db", limits=limits)
    try:
        acknowledged = await append_until_refused(log, 100_000, 60)
        await log.commit("writer", TOPIC, 0, len(acknowledged))
        with pytest.raises(Unavailable):
            await log.append(TOPIC, 0, bytes(100_000), ())
        await assert_holds(log, acknowledged)
    finally:
        await log.close()


async def test_F51_records_from_the_future_make_room_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(bytes_free_min=0, retention_bytes=3 * MIB, consumed_seconds_min=600)
    log = await EmbeddedLog.open(tmp_path / "log.db", limits=limits)
    try:
        three_days_ns = 3 * 24 * 3_600 * 10**9
        now_ns = time.time_ns
        with monkeypatch.context() as ahead:
            ahead.setattr(time, "time_ns", lambda: now_ns() + three_days_ns)
            acknowledged = await append_until_refused(log, 100_000, 60)
        await log.commit("writer", TOPIC, 0, len(acknowledged))
        assert await log.append(TOPIC, 0, bytes(100_000), ()) == len(acknowledged)
    finally:
        await log.close()


async def _first_is(log: EmbeddedLog, topic: str, offset: int) -> None:
    first, _ = await log.bounds(topic, 0)
    assert first == offset


async def test_age_deletes_what_every_group_has_read_and_what_has_no_reader_by_design(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    log = await EmbeddedLog.open(path, limits=Limits(bytes_free_min=0))
    dead = "otlp.deadletter.v1"
    for topic in (TOPIC, dead, "otlp.traces.v1"):
        await log.append_many(topic, 0, [(bytes(50_000), ())] * 150)
    await log.commit("writer", TOPIC, 0, 100)
    await log.commit("second", TOPIC, 0, 70)
    await log.close()
    limits = Limits(bytes_free_min=0, retention_hours=0, maintenance_seconds=0.02)
    log = await EmbeddedLog.open(path, limits=limits)
    try:
        await eventually(lambda: _first_is(log, TOPIC, 70))
        await eventually(lambda: _first_is(log, dead, 150))
        await log.commit("second", TOPIC, 0, 120)
        await eventually(lambda: _first_is(log, TOPIC, 100))
        assert await log.bounds("otlp.traces.v1", 0) == (0, 150)
        assert await log.append(dead, 0, b"", ()) == 150
    finally:
        await log.close()
    log = await EmbeddedLog.open(path, limits=limits)
    try:
        assert await log.bounds(TOPIC, 0) == (100, 150)
        assert (await log.backlog("writer", TOPIC)).records == 50
    finally:
        await log.close()


async def test_young_records_stay_whoever_has_read_them(tmp_path: Path) -> None:
    limits = Limits(bytes_free_min=0, retention_hours=1, maintenance_seconds=0.01)
    log = await EmbeddedLog.open(tmp_path / "log.db", limits=limits)
    try:
        await log.append_many(TOPIC, 0, [(b"", ())] * 5)
        await log.commit("writer", TOPIC, 0, 5)
        await asyncio.sleep(0.2)  # many rounds of retention
        assert await log.bounds(TOPIC, 0) == (0, 5)
    finally:
        await log.close()


async def test_more_than_may_wait_at_once_is_refused_and_not_queued(tmp_path: Path) -> None:
    limits = Limits(bytes_free_min=0, pending_bytes_max=MIB)
    log = await EmbeddedLog.open(tmp_path / "log.db", limits=limits)
    try:
        answers = await asyncio.gather(
            *(log.append(TOPIC, 0, bytes(300_000), ()) for _ in range(40)),
            return_exceptions=True,
        )
        taken = [answer for answer in answers if isinstance(answer, int)]
        assert 3 <= len(taken) < 40
        assert all(isinstance(answer, int | Unavailable) for answer in answers)
        assert (await log.totals(TOPIC, 0)).records == len(taken)
    finally:
        await log.close()


LOCKER = """
import sys
from pathlib import Path
from ingest.embedded_log.files import LogFiles
with LogFiles(Path(sys.argv[1])).locked(5):
    print("locked", flush=True)
    sys.stdin.read()
"""


async def test_a_process_that_stops_while_it_holds_the_lock_costs_others_a_bounded_wait(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    limits = Limits(bytes_free_min=0, lock_wait_seconds=0.2)
    log = await EmbeddedLog.open(path, limits=limits)
    locker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        LOCKER,
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert locker.stdout is not None
        await locker.stdout.readline()
        started = time.monotonic()
        with pytest.raises(Unavailable, match="locked"):
            await log.append(TOPIC, 0, b"", ())
        assert time.monotonic() - started < 5
    finally:
        await locker.communicate(b"")
    assert await eventually(lambda: log.append(TOPIC, 0, b"", ())) == 0
    await log.close()


async def test_the_write_ahead_log_stays_small_while_several_append_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.embedded_log.committer.CHECKPOINT_BYTES", MIB)
    monkeypatch.setattr("ingest.embedded_log.committer.WAL_BYTES_KEPT", 2 * MIB)
    path = tmp_path / "log.db"
    logs = [await EmbeddedLog.open(path, limits=Limits(bytes_free_min=0)) for _ in range(2)]

    async def append(log: EmbeddedLog) -> None:
        for _ in range(60):
            await log.append(TOPIC, 0, bytes(200_000), ())

    try:
        await asyncio.gather(*(append(log) for log in logs for _ in range(2)))
        assert (await logs[0].bounds(TOPIC, 0))[1] == 240
        assert (tmp_path / "log.db-wal").stat().st_size < 12 * MIB
    finally:
        for log in logs:
            await log.close()
