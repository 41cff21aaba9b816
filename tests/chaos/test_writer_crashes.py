"""The writer on a real log and a real engine, between which connections break and which die."""

import asyncio
import secrets
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from ingest.conservation import balance
from ingest.dead_letters import dead_letters
from ingest.embedded_log import EmbeddedLog
from ingest.inserts import ClickHouseInserts
from ingest.partition_writer import PartitionWriter
from ingest.ranges import BatchLimits
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from tests.chaos.fault_proxy import LOST_ANSWER, FaultProxy
from tests.e2e.processes import Product
from tests.integration.ingest.stored_blocks import logs_request, records_of
from tests.integration.shared.embedded_server import EmbeddedServer

TOPIC: Final = "otlp.logs.v1"
RECORDS: Final = 20
ROWS: Final = 200
COUNT_SQL: Final = """
    SELECT count() AS rows, uniqExact(Body) AS bodies FROM telemetry.tf_logs
    WHERE TenantId = {tenant:String}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("chaos") / "data") as started:
        asyncio.run(_migrate(started))
        yield started


async def _migrate(server: EmbeddedServer) -> None:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as clickhouse:
        await Migrator(clickhouse.command, clickhouse.query, database="telemetry").migrate()


async def filled_log(path: Path, tenant: str) -> tuple[EmbeddedLog, int]:
    """A log with records of one tenant, and the bytes of their values."""
    log = await EmbeddedLog.open(path)
    size = 0
    for number in range(RECORDS):
        bodies = [f"{number}/{part}/{secrets.token_hex(8)}" for part in range(ROWS)]
        records = records_of("logs", logs_request(bodies), tenant=tenant)
        size += sum(len(value) for value, _headers in records)
        await log.append_many(TOPIC, 0, records)
    return log, size


def writer_of(log: EmbeddedLog, clickhouse: ClickHouse) -> PartitionWriter:
    async def no_tenants(_tenants: Sequence[str]) -> None:
        return None

    return PartitionWriter(
        log,
        TOPIC,
        0,
        ClickHouseInserts(clickhouse, database="telemetry"),
        limits=BatchLimits(rows_max=100_000, bytes_max=32 << 20, wait_ms=0),
        ensure_tenants=no_tenants,
        insert_slots=asyncio.Semaphore(1),
    )


async def assert_stored_once(server: EmbeddedServer, log: EmbeddedLog, tenant: str) -> None:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as clickhouse:
        rows = await clickhouse.query(COUNT_SQL, {"tenant": tenant})
    assert tuple(rows[0]) == (RECORDS * ROWS, RECORDS * ROWS)
    found = await balance(log, TOPIC)
    assert found is not None
    assert (found.in_flight, found.difference) == (0, 0)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99, 1.0])
async def test_F12_an_insert_that_is_cut_off_is_stored_once(
    server: EmbeddedServer, tmp_path: Path, part: float
) -> None:
    tenant = f"t{secrets.token_hex(6)}"
    log, size = await filled_log(tmp_path / "log.db", tenant)
    async with FaultProxy(server.port) as proxy:
        # The head of the request has 2 KB, so that even 0.99 of the body ends inside of it.
        proxy.faults.append(1 + int(part * size))
        async with ClickHouse(ClickHouseAddress("127.0.0.1", proxy.port)) as clickhouse:
            assert await writer_of(log, clickhouse).step()
        assert not proxy.faults
    await assert_stored_once(server, log, tenant)
    await log.close()


async def test_F33_F61_an_answer_that_is_lost_again_and_again_is_stored_once(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    tenant = f"t{secrets.token_hex(6)}"
    log, _size = await filled_log(tmp_path / "log.db", tenant)
    async with FaultProxy(server.port) as proxy:
        proxy.faults.extend([LOST_ANSWER] * 3)
        async with ClickHouse(ClickHouseAddress("127.0.0.1", proxy.port)) as clickhouse:
            assert await writer_of(log, clickhouse).step()
        assert not proxy.faults
    await assert_stored_once(server, log, tenant)
    await log.close()


async def test_F38_an_engine_that_is_killed_during_inserts_has_everything_once(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    tenant = f"t{secrets.token_hex(6)}"
    log, _size = await filled_log(tmp_path / "log.db", tenant)
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as clickhouse:
        for delay in (0.0, 0.02, 0.1):
            await log.commit("writer", TOPIC, 0, 0)
            step = asyncio.create_task(writer_of(log, clickhouse).step())
            await asyncio.sleep(delay)  # the moment of the kill, not synchronisation
            server.end(signal.SIGKILL)
            await asyncio.to_thread(server.start)
            assert await step
    await assert_stored_once(server, log, tenant)
    await log.close()


async def append_some(path: Path, tenant: str) -> None:
    """Good records and a damaged one, appended beside the running processes."""
    log = await EmbeddedLog.open(path)
    for number in range(6):
        bodies = [f"{number}/{part}" for part in range(10)]
        ((value, headers),) = records_of("logs", logs_request(bodies), tenant=tenant)
        await log.append(TOPIC, 0, value[:-9] if number == 3 else value, headers)
    await log.close()


async def letters_in(path: Path) -> list[int]:
    log = await EmbeddedLog.open(path)
    offsets = [letter.origin.offset async for letter in dead_letters(log)]
    found = await balance(log, TOPIC)
    await log.close()
    assert found is not None
    assert (found.dead, found.in_flight, found.difference) == (10, 0, 0)
    return offsets


@pytest.mark.timeout(120)
def test_F54_a_writer_that_dies_beside_a_dead_letter_stores_the_rest_once(tmp_path: Path) -> None:
    tenant = "acme"
    path = tmp_path / "data" / "log" / "log.db"
    with Product(tmp_path) as product:
        product.stop("writer")
        asyncio.run(append_some(path, tenant))
        product.start("writer", crash_at="writer.in_dead_letter")
        product.wait_until_ended("writer")
        product.start("writer")
        product.wait_for_rows(50, "SELECT Body FROM tf_logs WHERE TenantId = 'acme'")
        assert product.stop("writer") == 0
        rows = product.rows(COUNT_SQL, tenant=tenant)
        assert [int(rows[0]["rows"]), int(rows[0]["bodies"])] == [50, 50]
    assert set(asyncio.run(letters_in(path))) == {3}
