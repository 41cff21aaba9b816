"""What gateways refused as another tenant's comes from the ledger into the trail, once."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from control.audit.contradictions import SETTLED_SECONDS, WINDOW_SECONDS
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from shared.messaging.events import utc_now
from shared.postgres.address import PostgresAddress
from shared.postgres.scope import PLATFORM
from tests.control.product import Running, running, settings_for
from tests.integration.shared.embedded_server import EmbeddedServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("clickhouse") / "data") as server:
        yield server


@pytest.fixture
async def clickhouse(server: EmbeddedServer) -> AsyncIterator[ClickHouse]:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as connected:
        await Migrator(connected.command, connected.query, database="telemetry").migrate()
        yield connected


@pytest.fixture
async def product(
    database_address: PostgresAddress,
    tmp_path: Path,
    server: EmbeddedServer,
    clickhouse: ClickHouse,
) -> AsyncIterator[Running]:
    settings = settings_for(
        database_address, tmp_path, clickhouse_host="127.0.0.1", clickhouse_port=server.port
    )
    async with running(settings, tmp_path) as product:
        yield product


async def test_S31_data_that_names_another_tenant_is_in_the_trail_once_with_a_count(
    product: Running, clickhouse: ClickHouse
) -> None:
    ada = await product.registered("ada@example.com")
    (tenant,) = (await ada.get("/tenants")).json["data"]
    async with product.control.database.read(PLATFORM) as connection:
        name = await connection.fetchval(
            "SELECT telemetry_id FROM tenants WHERE id = $1", UUID(tenant["id"])
        )
    now = utc_now()
    begin = int(now.timestamp()) // WINDOW_SECONDS * WINDOW_SECONDS - WINDOW_SECONDS
    await clickhouse.command(
        "INSERT INTO telemetry.tf_ledger (TenantId, Minute, Signal, Event, Reason, Items) VALUES "
        f"('{name}', {begin}, 'logs', 'refused', 'tenant_contradiction', 3), "
        f"('{name}', {begin + 60}, 'logs', 'refused', 'tenant_contradiction', 4), "
        f"('{name}', {begin + 60}, 'logs', 'rejected', 'tenant_contradiction', 50), "
        f"('{name}', {begin}, 'logs', 'refused', 'unauthenticated', 9)"
    )
    record = product.control.audit.contradictions.record
    database = product.control.database

    window_over = now + timedelta(seconds=WINDOW_SECONDS + SETTLED_SECONDS)
    before_it_is_over = window_over - timedelta(seconds=2 * WINDOW_SECONDS + SETTLED_SECONDS)
    assert await record(database, now=before_it_is_over) == 0
    assert await record(database, now=window_over) == 1
    assert await record(database, now=window_over + timedelta(seconds=WINDOW_SECONDS)) == 0
    await product.work()

    (entry,) = (await ada.get("/audit-logs?result=failure")).json["data"]
    assert entry["action"] == "security.access_denied"
    assert entry["tenantId"] == entry["resourceId"] == tenant["id"]
    assert entry["metadata"]["kind"] == "tenant_contradiction"
    assert entry["metadata"]["detail"].startswith("7 requests and 50 items of logs named another")
