"""Blocks of the codec in the tables of the migrations: every column of every row comes back."""

import asyncio
import struct
import time
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import payloads
from ingest.codec import Encoder
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.codec.reference.items import Receipt
from ingest.codec.reference.native import Reader
from ingest.codec.reference.rows import rows_of
from ingest.codec.tables import TABLES, TABLES_OF_SIGNAL
from ingest.compression import compression
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from tests.integration.shared.embedded_server import EmbeddedServer
from tests.unit.ingest.codec.strategies import requests

DATABASE: Final = "telemetry"
RETENTION_DAYS: Final = 3_650
SIGNALS: Final = tuple(TABLES_OF_SIGNAL)
Row = dict[str, Any]

tenants = (f"tenant {number}" for number in count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    async def migrate(started: EmbeddedServer) -> None:
        async with ClickHouse(ClickHouseAddress("127.0.0.1", started.port)) as clickhouse:
            await Migrator(clickhouse.command, clickhouse.query, database=DATABASE).migrate()

    with EmbeddedServer(tmp_path_factory.mktemp("codec") / "data") as started:
        asyncio.run(migrate(started))
        yield started


def insert(server: EmbeddedServer, table: str, native: bytes, encoding: str) -> None:
    """One block as the writer sends it."""
    framed = compression(encoding).frame(native) if encoding else native
    reply = server.ask(
        f"INSERT INTO {DATABASE}.{table} FORMAT Native",
        {"async_insert": "0"},
        body=framed,
        headers={"Content-Encoding": encoding} if encoding else {},
    )
    assert reply.status == 200, reply.text


def rows_in(server: EmbeddedServer, table: str, tenant: str) -> list[Row]:
    """Every column of a tenant's rows, in some order."""
    columns = ", ".join(f"`{name}`" for name, _type in TABLES[table])
    reply = server.ask(
        f"SELECT {columns} FROM {DATABASE}.{table} WHERE TenantId = {{tenant:String}} "
        "FORMAT Native",
        {"param_tenant": tenant},
    )
    assert reply.status == 200, reply.text
    reader = Reader(reply.body)
    rows: list[Row] = []
    while not reader.is_at_end:
        found = reader.next_block()
        assert tuple(found) == TABLES[table]
        names = [name for name, _type in found]
        rows += [dict(zip(names, row, strict=True)) for row in zip(*found.values(), strict=True)]
    return rows


def in_order(rows: list[Row]) -> list[str]:
    """Rows as texts in which a double stands with its bits, so that NaN equals itself."""
    return sorted(
        repr({name: _exact(value) for name, value in sorted(row.items())}) for row in rows
    )


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(one) for one in value]
    return struct.pack("<d", value).hex() if isinstance(value, float) else value


def expected_rows(signal: str, bodies: list[bytes], receipt: Receipt) -> dict[str, list[Row]]:
    """What the reference makes of the requests, before any block is written."""
    rows: dict[str, list[Row]] = {}
    for body in bodies:
        for item in rows_of(signal, body, receipt).items:
            rows.setdefault(item.table, []).append(item.row)
    return rows


def check(server: EmbeddedServer, signal: str, bodies: list[bytes], encoding: str = "") -> int:
    """Inserts the requests' blocks and compares all that comes back; the number of rows."""
    receipt = Receipt(next(tenants), time.time_ns(), RETENTION_DAYS)
    encoder = Encoder(signal, retention_days=RETENTION_DAYS)
    for body in bodies:
        encoder.append(body, tenant=receipt.tenant, received_ns=receipt.received_ns)
    blocks = encoder.close()
    for block in blocks:
        insert(server, block.table, block.native, encoding)
    expected = expected_rows(signal, bodies, receipt)
    assert sorted(expected) == sorted(block.table for block in blocks)
    for table, rows in expected.items():
        assert in_order(rows_in(server, table, receipt.tenant)) == in_order(rows)
    return sum(map(len, expected.values()))


@pytest.mark.parametrize("encoding", ["", "zstd", "lz4"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_every_column_of_usual_requests_comes_back(
    server: EmbeddedServer, signal: str, encoding: str
) -> None:
    bodies = payloads.requests(signal, items=300, count=4, now_ns=time.time_ns())

    assert check(server, signal, list(bodies), encoding) == 1_200


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_column_of_random_requests_comes_back(server: EmbeddedServer, signal: str) -> None:
    stored = 0

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(st.lists(requests(signal), min_size=1, max_size=8))
    def check_one(messages: list[Message]) -> None:
        nonlocal stored
        stored += check(server, signal, [message.SerializeToString() for message in messages])

    check_one()

    assert stored > 50


def test_the_server_reads_what_the_reference_writes(server: EmbeddedServer) -> None:
    bodies = payloads.requests("metrics", items=50, count=1, now_ns=time.time_ns())
    receipt = Receipt(next(tenants), time.time_ns(), RETENTION_DAYS)
    encoder = ReferenceEncoder("metrics", retention_days=RETENTION_DAYS)
    encoder.append(bodies[0], tenant=receipt.tenant, received_ns=receipt.received_ns)

    for block in encoder.close():
        insert(server, block.table, block.native, "")
        stored = rows_in(server, block.table, receipt.tenant)
        assert in_order(stored) == in_order(Reader(block.native).rows())


@pytest.mark.parametrize("words", [300, 66_000])
def test_indices_of_two_and_four_bytes_come_back(server: EmbeddedServer, words: int) -> None:
    tenant = next(tenants)
    request = payloads.requests("logs", items=1, count=1, now_ns=time.time_ns())[0]
    encoder = Encoder(
        "logs", retention_days=RETENTION_DAYS, block_bytes_max=2**28, block_rows_max=words
    )
    names = [f"{tenant} {number}" for number in range(words)]
    for name in names:
        encoder.append(request, tenant=name, received_ns=time.time_ns())
    [block] = encoder.close()
    insert(server, "tf_logs", block.native, "zstd")

    found = server.run(
        f"SELECT count(), uniqExact(TenantId), min(TenantId), max(TenantId) "
        f"FROM {DATABASE}.tf_logs WHERE startsWith(TenantId, '{tenant} ')"
    )
    assert found.split("\t") == [str(words), str(words), min(names), max(names)]
