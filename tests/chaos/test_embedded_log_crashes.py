"""Processes that use the embedded log are killed, at random and at named points.

Each appending process prints an offset only after it was acknowledged. Whatever was printed must
be there afterwards, under that offset, once.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ingest.embedded_log import EmbeddedLog, Limits
from ingest.embedded_log.layout import PAGE_BYTES
from ingest.log import Record
from shared.errors import Unavailable
from tests.integration.ingest.log_polling import eventually

TOPIC = "otlp.metrics.v1"
LIMITS = Limits(bytes_free_min=0, maintenance_seconds=0.05)
ROUNDS = 10
APPENDS_MAX = 20_000  # per process: it ends by itself if nobody kills it

APPENDER = f"""
import asyncio, os, sys
from ingest.embedded_log import EmbeddedLog, Limits
from shared.errors import Unavailable

async def append(log, name, lane):
    for number in range({APPENDS_MAX} // 4):
        value = b"%s/%d/%d" % (name.encode(), lane, number)
        value += b"." * (number * 7919 % 60_000)
        try:
            if number % 5 == 4:
                pair = [(value, ()), (value + b"+", ())]
                offsets = await log.append_many({TOPIC!r}, 0, pair)
            else:
                offsets = [await log.append({TOPIC!r}, 0, value, ())]
        except Unavailable:
            await asyncio.sleep(0.01)
            continue
        text = value.decode().rstrip(".+")
        os.write(1, "".join(f"{{offset}} {{text}}\\n" for offset in offsets).encode())

async def main(path, name):
    log = await EmbeddedLog.open(path, limits=Limits(bytes_free_min=0, maintenance_seconds=0.05))
    os.write(1, b"open\\n")
    await asyncio.gather(*(append(log, name, lane) for lane in range(4)))

asyncio.run(main(*sys.argv[1:]))
"""


def start_appender(path: Path, name: str, crash_at: str = "") -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "TELEMETRYFLOW_CRASH_AT": crash_at}
    command = [sys.executable, "-c", APPENDER, str(path), name]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)


def acknowledged(output: bytes) -> dict[int, str]:
    """What was printed, without the last line if the kill cut it."""
    lines = output.decode().split("\n")[:-1]
    pairs = (line.split(" ") for line in lines if line != "open")
    return {int(offset): text for offset, text in pairs}


async def kill_after(process: "subprocess.Popen[bytes]", seconds: float) -> dict[int, str]:
    """Kills a process some time after it began; gives what it was told to be durable."""
    assert process.stdout is not None
    reading = asyncio.create_task(asyncio.to_thread(process.stdout.read))
    try:
        await asyncio.sleep(seconds)
    finally:
        process.kill()
    output = await reading
    assert process.wait(10) == -signal.SIGKILL
    process.stdout.close()
    return acknowledged(output)


async def read_all(log: EmbeddedLog) -> list[Record]:
    records: list[Record] = []
    offset = 0
    while batch := await log.read(
        TOPIC, 0, offset, records_max=500, bytes_max=10**7, wait_seconds=0
    ):
        records += batch
        offset = batch[-1].offset + 1
    return records


def text_of(record: Record) -> str:
    return record.value.decode().rstrip(".+")


async def assert_whole(path: Path, told: dict[int, str], *, contiguous: bool = True) -> None:
    log = await EmbeddedLog.open(path, limits=LIMITS)
    try:
        records = await eventually(lambda: read_all(log))
        stored = {record.offset: text_of(record) for record in records}
        assert told.items() <= stored.items()
        offsets = [record.offset for record in records]
        assert offsets == sorted(set(offsets))
        if contiguous:
            assert offsets == list(range(len(offsets)))
            assert log.losses == []
        assert_pairs_are_whole(records)
        assert log.damaged_records == 0
        assert (await log.totals(TOPIC, 0)).records == len(records)
    finally:
        await log.close()


def assert_pairs_are_whole(records: list[Record]) -> None:
    """A fifth of all appends were pairs, all or none of which may be there."""
    copies = Counter(text_of(record) for record in records)
    for text, count in copies.items():
        assert count == (2 if int(text.rsplit("/", 1)[1]) % 5 == 4 else 1), text


async def test_I1_nothing_acknowledged_is_lost_or_doubled_when_appenders_are_killed_at_random(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    chance = random.Random(20_261_123)
    told: dict[int, str] = {}
    for number in range(ROUNDS):
        processes = [start_appender(path, f"{name}{number}") for name in "ab"]
        results = await asyncio.gather(
            *(kill_after(process, chance.uniform(0.25, 0.6)) for process in processes)
        )
        for result in results:
            assert not told.keys() & result.keys()
            told |= result
        if number % 3 == 2:
            await assert_whole(path, told)
    await assert_whole(path, told)
    assert len(told) > 20


@pytest.mark.parametrize("point", ["log.before_commit:20", "log.after_commit:20"])
async def test_H4_a_crash_at_the_commit_loses_nothing_that_was_acknowledged(
    tmp_path: Path, point: str
) -> None:
    path = tmp_path / "log.db"
    process = start_appender(path, "crash", crash_at=point)
    output, _ = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == -signal.SIGKILL
    told = acknowledged(output)
    assert len(told) > 10
    await assert_whole(path, told)


async def prepared(path: Path) -> dict[int, str]:
    log = await EmbeddedLog.open(path, limits=LIMITS)
    told = {}
    for number in range(0, 100, 5):
        text = f"before/0/{number}"
        told[await log.append(TOPIC, 0, text.encode() + b"." * 30_000, ())] = text
    await log.close()
    return told


def damage_end_of_file(path: Path) -> None:
    """Garbage behind the leaves: structure that is found broken by whoever appends or reads."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(0)
        file.write(os.urandom(100))
        file.seek(len(content) // 2 // PAGE_BYTES * PAGE_BYTES)
        file.write(b"\xa5" * PAGE_BYTES)


async def test_H4_a_crash_in_the_middle_of_a_repair_is_made_up_for_by_the_next_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    told = await prepared(path)
    damage_end_of_file(path)
    for _ in range(2):
        process = start_appender(path, "crash", crash_at="log.before_repaired")
        output, _ = await asyncio.to_thread(process.communicate, timeout=30)
        assert process.returncode == -signal.SIGKILL
        assert output == b""
    log = await EmbeddedLog.open(path, limits=LIMITS)
    try:
        records = {record.offset: text_of(record) for record in await read_all(log)}
        assert records.items() <= told.items()
        assert len(records) >= len(told) - 10
        assert await log.append(TOPIC, 0, b"after/0/0", ()) > max(told)
    finally:
        await log.close()


async def test_processes_stay_correct_while_one_of_them_repairs_the_log(tmp_path: Path) -> None:
    """Two processes append all the time; damage of the open file must cost only what it hit."""
    path = tmp_path / "log.db"
    await prepared(path)
    processes = [start_appender(path, name) for name in "ab"]
    # Long enough for both to go on after the repair, also on a busy machine.
    killing = [asyncio.create_task(kill_after(process, 6)) for process in processes]
    log = await EmbeddedLog.open(path, limits=LIMITS)
    try:
        identity = log.identity
        await asyncio.sleep(0.7)  # appends of both processes are under way
        await log.bounds(TOPIC, 0)
        # What came between the look at the end and the damage may be hit: nothing comes then.
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        _, before = await log.bounds(TOPIC, 0)
        damage_end_of_file(path)
        os.truncate(path, PAGE_BYTES * 3)
        for process in processes:
            process.send_signal(signal.SIGCONT)
        await eventually(lambda: _repaired(log, identity))
        damaged_at = (await eventually(lambda: log.bounds(TOPIC, 0)))[1]
        assert damaged_at > before
    finally:
        await log.close()
    results = await asyncio.gather(*killing)
    told = results[0] | results[1]
    assert len(told) == len(results[0]) + len(results[1])
    for result in results:
        assert max(result) >= damaged_at  # both went on afterwards
    log = await EmbeddedLog.open(path, limits=LIMITS)
    try:
        stored = {record.offset: text_of(record) for record in await read_all(log)}
    finally:
        await log.close()
    kept = told.keys() & stored.keys()
    assert {offset: told[offset] for offset in kept} == {offset: stored[offset] for offset in kept}
    missing = sorted(told.keys() - stored.keys())
    assert all(offset < before for offset in missing), "lost although appended after the damage"


async def _repaired(log: EmbeddedLog, identity: str) -> None:
    try:
        await log.append(TOPIC, 0, b"probe/0/0", ())
        await read_all(log)
    except Unavailable:
        raise AssertionError("not yet") from None
    assert log.identity != identity
