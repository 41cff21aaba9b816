"""An engine with the product's tables, telemetry in it, and the API over both."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from control.telemetry.queries.cursors import Cursors
from control.telemetry.queries.engine import Engine
from ingest.codec import Encoder
from ingest.codec.tables import TABLES
from ingest.compression import compression
from shared.cache.cache import Cache
from shared.cache.memory import MemoryCache
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from shared.clickhouse.rollups import METRIC_TABLES, note_series
from shared.postgres.address import PostgresAddress
from tests.control.client import Client
from tests.control.people import Seeded, seed
from tests.control.product import Running, running, settings_for
from tests.integration.shared.embedded_server import EmbeddedServer

DATABASE = "telemetry"
RETENTION_DAYS = 30
# Of an engine that runs already, for tests that other tests run.
PORT_OF_ENGINE = "TESTS_ENGINE_PORT"


@pytest.fixture(scope="session")
def telemetry_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One for all tests of the API: they keep apart by their tenants."""
    server = EmbeddedServer(tmp_path_factory.mktemp("telemetry") / "data")
    if port := os.environ.get(PORT_OF_ENGINE):
        server.port = int(port)
        yield server
        return
    with server:
        yield server


@pytest.fixture
async def telemetry_store(telemetry_engine: EmbeddedServer) -> AsyncIterator[ClickHouse]:
    """A client of the engine, all tables made."""
    async with ClickHouse(ClickHouseAddress("127.0.0.1", telemetry_engine.port)) as client:
        await Migrator(client.command, client.query, database=DATABASE).migrate()
        yield client


async def store(
    client: ClickHouse,
    signal: str,
    tenant: str,
    request: Any,
    *,
    received_ns: int,
    retention_days: int = RETENTION_DAYS,
) -> None:
    """What becomes of an export request: through the codec, as the writer inserts it."""
    encoder = Encoder(signal, retention_days=retention_days)
    result = encoder.append(request.SerializeToString(), tenant=tenant, received_ns=received_ns)
    assert not result.rejected, result.rejected
    for number, block in enumerate(encoder.close()):
        await client.insert_native(
            f"{DATABASE}.{block.table}",
            [name for name, _type in TABLES[block.table]],
            compression("zstd").frame(block.native),
            encoding="zstd",
            token=f"{tenant}-{number}-{secrets.token_hex(8)}",
            settings={"async_insert": "0"},
        )


async def note_all_series(client: ClickHouse, start_ns: int, end_ns: int) -> None:
    """What the job does for the series of points that are stored."""
    for table in METRIC_TABLES:
        await note_series(
            client, DATABASE, table, start=start_ns // 1_000_000_000, end=end_ns // 1_000_000_000
        )


@dataclass
class Explorer:
    """The API as a person of one tenant sees it."""

    product: Running
    store: ClickHouse
    seeded: Seeded
    tenant: str
    client: Client
    other: "Explorer | None" = None


@pytest.fixture
async def telemetry_product(
    database_address: PostgresAddress,
    tmp_path: Path,
    telemetry_engine: EmbeddedServer,
    telemetry_store: ClickHouse,
) -> AsyncIterator[Running]:
    """A control plane whose ClickHouse is there."""
    settings = settings_for(
        database_address,
        tmp_path,
        clickhouse_host="127.0.0.1",
        clickhouse_port=telemetry_engine.port,
        clickhouse_database=DATABASE,
    )
    async with running(settings, tmp_path) as product:
        yield product


@pytest.fixture
async def explorer(telemetry_product: Running, telemetry_store: ClickHouse) -> Explorer:
    """A developer of a tenant of their own, and one of another organization."""
    found = []
    for _ in range(2):
        seeded = await seed(telemetry_product.control.database)
        tokens = await telemetry_product.tokens_of(seeded)
        found.append(
            Explorer(
                telemetry_product,
                telemetry_store,
                seeded,
                str(seeded.tenant),
                telemetry_product.client.as_(tokens[3]),
            )
        )
    found[0].other = found[1]
    return found[0]


@pytest.fixture
async def engine(telemetry_store: ClickHouse) -> AsyncIterator[Engine]:
    """Reads without the API."""
    cache = Cache(MemoryCache(items_max=10, bytes_max=100_000), None)
    async with cache:
        yield Engine(
            telemetry_store, database=DATABASE, cache=cache, cursors=Cursors(b"key of a test")
        )
