"""The writer between the real log and the real engine."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

import orjson
import pytest

from ingest.conservation import balance
from ingest.dead_letters import dead_letter, replay, rows_of_letter
from ingest.embedded_log import EmbeddedLog
from ingest.inserts import ClickHouseInserts, insert_settings
from ingest.log import Record
from ingest.partition_writer import PartitionWriter
from ingest.plans import read_headers
from ingest.ranges import BatchLimits
from ingest.signals import INGESTED_TOPIC
from ingest.writer import wait_until_ready
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.exception_codes import SchemaMismatch
from shared.clickhouse.migrate import Migrator
from shared.errors import Conflict, Invalid, Unavailable
from tests.integration.ingest.stored_blocks import (
    logs_request,
    points_request,
    records_of,
    records_of_requests,
    spans_request,
)
from tests.integration.shared.embedded_server import EmbeddedServer

LIMITS: Final = BatchLimits(rows_max=100_000, bytes_max=32 << 20, wait_ms=0)
KEY: Final = ("tf_logs", 30, "zstd")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("writer") / "data") as started:
        asyncio.run(migrated(started))
        yield started


async def migrated(server: EmbeddedServer) -> None:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as clickhouse:
        await Migrator(clickhouse.command, clickhouse.query, database="telemetry").migrate()


@pytest.fixture
async def clickhouse(server: EmbeddedServer) -> AsyncIterator[ClickHouse]:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as connected:
        yield connected


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    opened = await EmbeddedLog.open(tmp_path / "log.db")
    yield opened
    await opened.close()


def writer_of(
    log: EmbeddedLog, clickhouse: ClickHouse, topic: str = "otlp.logs.v1"
) -> PartitionWriter:
    async def no_tenants(_tenants: Sequence[str]) -> None:
        return None

    return PartitionWriter(
        log,
        topic,
        0,
        ClickHouseInserts(clickhouse, database="telemetry"),
        limits=LIMITS,
        ensure_tenants=no_tenants,
        insert_slots=asyncio.Semaphore(4),
    )


def unique() -> str:
    """A tenant that no other test has."""
    return f"t{secrets.token_hex(6)}"


async def count(clickhouse: ClickHouse, tenant: str, table: str = "tf_logs") -> tuple[int, int]:
    """Rows, and distinct rows, of a tenant."""
    what = "Body" if table == "tf_logs" else "*"
    rows = await clickhouse.query(
        f"SELECT count(), uniqExact({what}) FROM telemetry.{table} "
        "WHERE TenantId = {tenant:String}",
        {"tenant": tenant},
    )
    return int(rows[0][0]), int(rows[0][1])


@pytest.mark.parametrize("encoding", ["zstd", "lz4"])
async def test_concatenated_frames_arrive_row_by_row(
    log: EmbeddedLog, clickhouse: ClickHouse, encoding: str
) -> None:
    tenant = unique()
    for number in range(5):
        bodies = [f"{number}/{part}" for part in range(100)]
        records = records_of("logs", logs_request(bodies), tenant=tenant, encoding=encoding)
        await log.append_many("otlp.logs.v1", 0, records)
    assert await writer_of(log, clickhouse).step()
    rows = await clickhouse.query(
        "SELECT Body, ServiceName, LogAttributes['shop.body'] FROM telemetry.tf_logs "
        "WHERE TenantId = {tenant:String}",
        {"tenant": tenant},
    )
    wanted = {f"{number}/{part}" for number in range(5) for part in range(100)}
    assert {tuple(row) for row in rows} == {(body, "shop", body) for body in wanted}
    assert len(rows) == 500
    found = await balance(log, "otlp.logs.v1")
    assert found is not None
    assert (found.appended, found.stored, found.in_flight, found.difference) == (500, 500, 0, 0)


async def test_every_signal_reaches_its_tables(log: EmbeddedLog, clickhouse: ClickHouse) -> None:
    tenant = unique()
    await log.append_many(
        "otlp.traces.v1", 0, records_of("traces", spans_request(20), tenant=tenant)
    )
    await log.append_many(
        "otlp.metrics.v1", 0, records_of("metrics", points_request(7), tenant=tenant)
    )
    for topic in ("otlp.traces.v1", "otlp.metrics.v1"):
        assert await writer_of(log, clickhouse, topic).step()
    tables = ("tf_traces", "tf_metrics_gauge", "tf_metrics_histogram")
    assert [(await count(clickhouse, tenant, table))[0] for table in tables] == [20, 7, 7]
    told = await log.read(INGESTED_TOPIC, 0, 0, records_max=10, bytes_max=1 << 20, wait_seconds=0)
    counts = [one for record in told for one in orjson.loads(record.value)["counts"]]
    assert {(one["tenant"], one["event"]) for one in counts} == {(tenant, "stored")}
    assert [(one["table"], one["rows"]) for one in counts] == [
        ("tf_traces", 20),
        ("tf_metrics_gauge", 7),
        ("tf_metrics_histogram", 7),
    ]


async def test_I06_D07_one_token_stores_once_in_the_table_and_in_its_rollups(
    log: EmbeddedLog, clickhouse: ClickHouse
) -> None:
    tenant = unique()
    await log.append_many(
        "otlp.traces.v1", 0, records_of("traces", spans_request(50), tenant=tenant)
    )
    for _restart in range(3):
        await log.commit("writer", "otlp.traces.v1", 0, 0)
        assert await writer_of(log, clickhouse, "otlp.traces.v1").step()
    assert (await count(clickhouse, tenant, "tf_traces"))[0] == 50
    rolled = await clickhouse.query(
        "SELECT sum(Spans) FROM telemetry.tf_red_1m WHERE TenantId = {tenant:String}",
        {"tenant": tenant},
    )
    assert int(rolled[0][0]) == 50


async def test_one_insert_makes_one_part_of_each_day(
    log: EmbeddedLog, clickhouse: ClickHouse
) -> None:
    """Also with more days than ClickHouse's own limit of partitions would be fine with."""
    tenant = unique()
    for day in range(3):
        body = logs_request([f"day {day}"] * 50, age_seconds=day * 86_400)
        await log.append_many("otlp.logs.v1", 0, records_of("logs", body, tenant=tenant))
    assert await writer_of(log, clickhouse).step()
    parts = await clickhouse.query(
        "SELECT count(), uniqExact(_part) FROM telemetry.tf_logs WHERE TenantId = {tenant:String}",
        {"tenant": tenant},
    )
    assert tuple(parts[0]) == (150, 3)


async def test_the_engine_knows_every_setting_that_inserts_are_sent_with(
    clickhouse: ClickHouse,
) -> None:
    for table in ("tf_traces", "tf_logs", "tf_metrics_sum"):
        names = set(insert_settings(table)) | {"insert_deduplication_token"}
        known = await clickhouse.query(
            "SELECT name FROM system.settings WHERE name IN {names:Array(String)}",
            {"names": sorted(names)},
        )
        assert {row[0] for row in known} == names


async def test_F54_of_real_blocks_only_the_damaged_one_is_set_aside(
    log: EmbeddedLog, clickhouse: ClickHouse
) -> None:
    tenant = unique()
    for number in range(8):
        bodies = [f"{number}/{part}" for part in range(10)]
        ((value, headers),) = records_of("logs", logs_request(bodies), tenant=tenant)
        if number == 5:
            value = value[:-8] + bytes(8)
        await log.append("otlp.logs.v1", 0, value, headers)
    assert await writer_of(log, clickhouse).step()
    assert await count(clickhouse, tenant) == (70, 70)
    letter = await dead_letter(log, 0)
    assert letter.origin.offset == 5
    with pytest.raises(Invalid):
        rows_of_letter(letter)
    found = await balance(log, "otlp.logs.v1")
    assert found is not None
    assert (found.stored, found.dead, found.difference) == (70, 10, 0)


async def test_F56_replaying_dead_letters_twice_stores_them_once(
    log: EmbeddedLog, clickhouse: ClickHouse
) -> None:
    tenant = unique()
    ((value, headers),) = records_of("logs", logs_request(["a", "b"]), tenant=tenant)
    unreadable = tuple((key, b"?" if key == "e" else text) for key, text in headers)
    await log.append("otlp.logs.v1", 0, value, unreadable)
    assert await writer_of(log, clickhouse).step()
    inserts = ClickHouseInserts(clickhouse, database="telemetry")
    outcome = await replay(log, inserts)
    assert outcome.stored == []
    ((number, reason),) = [(one.number, one.reason) for one in outcome.refused]
    assert number == 0
    assert "encoded as" in reason
    # The repaired letter, and a second copy of it as a crash would leave it.
    letter = await dead_letter(log, 0)
    origin = (
        ("dead.log", letter.origin.log.encode()),
        ("dead.topic", letter.origin.topic.encode()),
        ("dead.partition", b"0"),
        ("dead.offset", b"0"),
    )
    for _copy in range(2):
        await log.append("otlp.deadletter.v1", 0, value, (*headers, *origin))
    assert [row["Body"] for row in rows_of_letter(await dead_letter(log, 1))] == ["a", "b"]
    # The one that is still refused holds up nobody.
    outcome = await replay(log, inserts)
    assert (outcome.stored, [one.number for one in outcome.refused]) == ([1], [0])
    assert (await replay(log, inserts)).stored == []
    # All are open again, as if none had been noted: the token knows the insert.
    await log.commit("dead-letter-replay", "otlp.deadletter.v1", 0, 0)
    assert (await replay(log, inserts)).stored == [1]
    assert await count(clickhouse, tenant) == (2, 2)


async def test_F36_a_missing_column_or_table_is_a_mismatch_and_no_fault_of_the_data(
    clickhouse: ClickHouse, server: EmbeddedServer
) -> None:
    other = "drifted"
    server.run(f"CREATE DATABASE IF NOT EXISTS {other} ENGINE = Atomic")
    ((value, headers),) = records_of("logs", logs_request(["a"]))
    planned = [read_headers(_record(value, headers))]
    inserts = ClickHouseInserts(clickhouse, database=other)
    with pytest.raises(SchemaMismatch, match="UNKNOWN_TABLE"):
        await inserts.insert(KEY, planned, "token-1")
    server.run(f"CREATE TABLE {other}.tf_logs (Body String) ENGINE = MergeTree ORDER BY Body")
    with pytest.raises(SchemaMismatch, match="NO_SUCH_COLUMN"):
        await inserts.insert(KEY, planned, "token-2")


async def test_F41_a_failing_view_is_repeated_without_doubling_the_table(
    clickhouse: ClickHouse, server: EmbeddedServer
) -> None:
    tenant = unique()
    server.run(
        "CREATE MATERIALIZED VIEW telemetry.broken_mv ENGINE = MergeTree ORDER BY x AS "
        "SELECT throwIf(Body = 'boom', 'on purpose') AS x FROM telemetry.tf_logs"
    )
    ((value, headers),) = records_of("logs", logs_request(["boom", "b"]), tenant=tenant)
    planned = [read_headers(_record(value, headers))]
    inserts = ClickHouseInserts(clickhouse, database="telemetry")
    try:
        with pytest.raises((Unavailable, SchemaMismatch)):
            await inserts.insert(KEY, planned, "view-token")
    finally:
        server.run("DROP TABLE telemetry.broken_mv SYNC")
    await inserts.insert(KEY, planned, "view-token")
    assert await count(clickhouse, tenant) == (2, 2)


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    away = EmbeddedServer(tmp_path)
    async with ClickHouse(ClickHouseAddress("127.0.0.1", away.port)) as clickhouse:
        with pytest.raises(Unavailable):
            await clickhouse.query("SELECT 1")


async def test_I07_the_start_is_refused_when_a_table_lost_its_window(
    clickhouse: ClickHouse, server: EmbeddedServer
) -> None:
    migrator = Migrator(clickhouse.command, clickhouse.query, database="telemetry")
    await wait_until_ready(migrator.problems)
    alter = "ALTER TABLE telemetry.tf_red_1m"
    server.run(f"{alter} MODIFY SETTING non_replicated_deduplication_window = 0")
    try:
        with pytest.raises(Conflict, match="tf_red_1m has no deduplication window"):
            await wait_until_ready(migrator.problems)
    finally:
        server.run(f"{alter} MODIFY SETTING non_replicated_deduplication_window = 10000")


def _record(value: bytes, headers: tuple[tuple[str, bytes], ...]) -> Record:
    return Record("otlp.logs.v1", 0, 0, 0, value, headers)


async def test_rows_that_the_engine_could_not_write_are_never_called_stored(
    clickhouse: ClickHouse, server: EmbeddedServer
) -> None:
    """Memory, disk, parts, constraints: what fails while writing, behind the parsing."""
    server.run("CREATE DATABASE IF NOT EXISTS guarded ENGINE = Atomic")
    server.run("CREATE TABLE guarded.tf_logs AS telemetry.tf_logs")
    server.run("ALTER TABLE guarded.tf_logs ADD CONSTRAINT short CHECK length(Body) < 5")
    ((value, headers),) = records_of("logs", logs_request(["a", "far too long"]))
    inserts = ClickHouseInserts(clickhouse, database="guarded")
    with pytest.raises(Invalid, match="VIOLATED_CONSTRAINT"):
        await inserts.insert(KEY, [read_headers(_record(value, headers))], "guarded-token")
    rows = await clickhouse.query("SELECT count() FROM guarded.tf_logs")
    assert rows[0][0] == 0


async def test_I09_a_request_in_two_shared_blocks_is_stored_once(
    log: EmbeddedLog, clickhouse: ClickHouse
) -> None:
    tenant = unique()
    requests = [
        (tenant, secrets.token_bytes(16), logs_request([f"{number}/{part}" for part in range(9)]))
        for number in range(4)
    ]
    for together in ((0, 1), (2, 1, 3), (3, 0)):
        records = records_of_requests("logs", [requests[number] for number in together])
        await log.append_many("otlp.logs.v1", 0, records)
    assert await writer_of(log, clickhouse).step()
    assert await count(clickhouse, tenant) == (36, 36)
    found = await balance(log, "otlp.logs.v1")
    assert found is not None
    assert (found.appended, found.stored, found.repeated, found.difference) == (63, 36, 27, 0)
