"""What the embedded log costs: appending blocks of 2 KB to 1 MB at group commit, reading back.

Numbers are CPU of the whole process, which is what a gateway pays. Measured on 2 shared cores of an
x86-64 virtual machine whose disk takes some 0.5 ms for an fsync (SQLite 3.40, Python 3.11), best
of four rounds:

    value     at once   MB/s   CPU ms/MB   CPU us/record   reading, CPU ms/MB
    2 KB            1      3       212            424             8.8
    2 KB           16     22        34             68             8.2
    100 KB          1    157       4.7            467             1.1
    100 KB         16    377       2.0            204             0.7
    300 KB          1    298       2.4            715             0.6
    300 KB         16    430       1.6            484             0.8
    1 MB            1    358       2.1          2 062             0.6
    1 MB           16    532       1.4          1 345             0.7

Raw SQLite on the same machine, by page size (CPU ms/MB; 100 KB alone, 100 KB by eight, 1 MB alone):
4 KiB 10.1, 8.0, 2.7; 16 KiB 6.9, 5.5, 1.4; 32 KiB 7.1, 4.5, 2.4; 64 KiB 9.9, 2.1, 4.6. Commits of
2 KB take 0.4 to 0.5 ms with all of them. Incremental vacuum costs nothing that shows at 16 KiB.
"""

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ingest.embedded_log import EmbeddedLog, Limits
from ingest.records import RecordInfo, RequestRows, TenantRows, to_headers

TOPIC = "otlp.traces.v1"
LANES = 8
BYTES_PER_ROUND = 24_000_000
HEADERS = to_headers(
    RecordInfo(
        table="otel_traces",
        rows=4_000,
        retention_days=30,
        time_min_ns=1,
        time_max_ns=2,
        encoding="zstd",
        tenants=(TenantRows("0b5c2f9e-6f0c-4c53-9f59-0d8f1b1c7a11", 4_000),),
        requests=tuple(
            RequestRows(bytes([n]) * 16, "0b5c2f9e-6f0c-4c53-9f59-0d8f1b1c7a11", 0, n * 100, 100)
            for n in range(40)
        ),
    )
)


async def append_concurrently(log: EmbeddedLog, value: bytes, count: int, at_once: int) -> None:
    async def append(first: int) -> None:
        for number in range(first, count, at_once):
            await log.append(TOPIC, number % LANES, value, HEADERS)

    await asyncio.gather(*(append(first) for first in range(at_once)))


async def read_back(log: EmbeddedLog) -> int:
    size = 0
    for lane in range(LANES):
        offset = 0
        while records := await log.read(
            TOPIC, lane, offset, records_max=64, bytes_max=8_000_000, wait_seconds=0
        ):
            size += sum(len(record.value) for record in records)
            offset = records[-1].offset + 1
    return size


def costs_of(work: Callable[[], object]) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


@pytest.mark.parametrize("at_once", [1, 4, 16])
@pytest.mark.parametrize("value_bytes", [2_000, 100_000, 300_000, 1_000_000])
def test_append_and_read_back(
    benchmark: BenchmarkFixture, tmp_path: Path, value_bytes: int, at_once: int
) -> None:
    value = os.urandom(value_bytes)
    count = max(16, min(400, BYTES_PER_ROUND // value_bytes))
    size_mb = count * value_bytes / 1e6
    limits = Limits(bytes_free_min=0)
    with asyncio.Runner() as runner:
        path = tmp_path / "log.db"
        log = runner.run(EmbeddedLog.open(path, partitions={TOPIC: LANES}, limits=limits))
        runs: list[tuple[float, float]] = []

        def append() -> None:
            runner.run(append_concurrently(log, value, count, at_once))

        measure = partial(benchmark.pedantic, rounds=3, warmup_rounds=1)
        measure(lambda: runs.append(costs_of(append)))
        wall, cpu = min(runs)
        read_wall, read_cpu = costs_of(lambda: runner.run(read_back(log)))
        runner.run(log.close())
    benchmark.extra_info |= {
        "append_mb_per_second": round(size_mb / wall, 1),
        "append_cpu_ms_per_mb": round(cpu / size_mb * 1e3, 2),
        "append_cpu_us_per_record": round(cpu / count * 1e6),
        "append_ms_per_record": round(wall / count * at_once * 1e3, 2),
        "read_mb_per_second": round(size_mb * (len(runs)) / read_wall, 1),
        "read_cpu_ms_per_mb": round(read_cpu / (size_mb * len(runs)) * 1e3, 2),
    }
