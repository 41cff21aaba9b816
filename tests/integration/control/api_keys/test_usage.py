"""Usage from ClickHouse into PostgreSQL and out over the API, and what quotas make of it."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from control.api_keys import directory, usage
from ingest.ledger import writer as ledger
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.messaging.events import utc_now
from shared.postgres.address import PostgresAddress
from shared.postgres.scope import PLATFORM
from tests.control.client import Client
from tests.control.product import Running, running, settings_for
from tests.integration.ingest.test_writer_clickhouse import migrated
from tests.integration.shared.embedded_server import EmbeddedServer

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("usage") / "data") as started:
        asyncio.run(migrated(started))
        yield started


@pytest.fixture
async def clickhouse(server: EmbeddedServer) -> AsyncIterator[ClickHouse]:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as connected:
        await connected.command("TRUNCATE TABLE telemetry.tf_usage")
        yield connected


@pytest.fixture
async def product(
    database_address: PostgresAddress,
    clickhouse: ClickHouse,
    server: EmbeddedServer,
    tmp_path: Path,
) -> AsyncIterator[Running]:
    settings = settings_for(
        database_address, tmp_path, clickhouse_host="127.0.0.1", clickhouse_port=server.port
    )
    async with running(settings, tmp_path) as product:
        yield product


@pytest.fixture
async def ada(product: Running) -> Client:
    """Administers an organization of her own."""
    return await product.registered("ada@example.com")


def today() -> date:
    return utc_now().date()


async def new_key(client: Client) -> dict[str, str]:
    key: dict[str, str] = (await client.post("/api-keys", {"name": "Collectors"})).json["key"]
    return key


async def telemetry_id(product: Running, key: dict[str, str]) -> str:
    """What ClickHouse calls the tenant of *key*."""
    async with product.control.database.read(PLATFORM) as connection:
        return str(
            await connection.fetchval(
                "SELECT telemetry_id FROM tenants WHERE id = $1", UUID(key["tenantId"])
            )
        )


async def tell(
    clickhouse: ClickHouse,
    at: datetime,
    tenant: str,
    key_id: str,
    *,
    items: int,
    signal_name: str = "logs",
    told_at: datetime | None = None,
) -> None:
    """What the ledger writes, of the minute *at*; ten bytes an item."""
    minute = int(at.timestamp()) // 60 * 60
    await clickhouse.command(
        "INSERT INTO telemetry.tf_usage "
        "(Hour, TenantId, KeyId, Signal, Items, Bytes, LastMinute, ToldAt) VALUES "
        f"({minute // 3_600 * 3_600}, '{tenant}', '{key_id}', '{signal_name}', {items}, "
        f"{items * 10}, {minute}, {int((told_at or utc_now()).timestamp())})"
    )


async def day_rows(product: Running) -> list[Any]:
    async with product.control.database.read(PLATFORM) as connection:
        return list(
            await connection.fetch("SELECT xmin::text, * FROM usage_days ORDER BY key_id, day")
        )


async def test_E040_usage_of_a_key_is_shown_by_day_and_by_hour(
    product: Running, clickhouse: ClickHouse, ada: Client
) -> None:
    key = await new_key(ada)
    tenant = await telemetry_id(product, key)
    noon = datetime.combine(utc_now().date() - timedelta(days=2), datetime.min.time(), UTC) + (
        12 * HOUR
    )
    await tell(clickhouse, noon, tenant, key["keyId"], items=5)
    await tell(clickhouse, noon + 2 * HOUR, tenant, key["keyId"], items=7)
    await tell(clickhouse, noon + 12 * HOUR, tenant, key["keyId"], items=1, signal_name="traces")
    await tell(clickhouse, noon, tenant, "", items=100)
    await product.control.usage.copy()

    path = f"/api-keys/{key['id']}/usage"
    days = (await ada.get(path)).json
    hours = (await ada.get(f"{path}?granularity=hour&signal=logs")).json
    listed = (await ada.get("/api-keys")).json["data"]

    midnight = f"{noon.date()}T00:00:00Z"
    after = f"{noon.date() + timedelta(days=1)}T00:00:00Z"
    assert days["data"] == [
        {"start": midnight, "signal": "logs", "items": 12, "bytes": 120},
        {"start": after, "signal": "traces", "items": 1, "bytes": 10},
    ]
    assert days["totals"] == [
        {"signal": "logs", "items": 12, "bytes": 120},
        {"signal": "traces", "items": 1, "bytes": 10},
    ]
    assert [(one["start"][11:13], one["items"]) for one in hours["data"]] == [("12", 5), ("14", 7)]
    assert (days["firstDay"], days["lastDay"]) == (
        str(utc_now().date() - timedelta(days=29)),
        str(utc_now().date()),
    )
    assert datetime.fromisoformat(days["lastUsedAt"]) == noon + 12 * HOUR
    assert (listed[0]["lastUsedAt"], listed[0]["recentItems"]) == (days["lastUsedAt"], 13)


async def test_usage_of_a_tenant_names_its_keys_and_what_had_none(
    product: Running, clickhouse: ClickHouse, ada: Client
) -> None:
    key = await new_key(ada)
    tenant = await telemetry_id(product, key)
    for key_id, items in ((key["keyId"], 5), ("", 30), (f"tfk_{99:032x}", 3)):
        await tell(clickhouse, utc_now(), tenant, key_id, items=items)
    await product.control.usage.copy()
    usage = (await ada.get("/usage")).json
    assert [(one["apiKeyId"], one["name"], one["items"]) for one in usage["keys"]] == [
        (None, None, 33),
        (key["id"], "Collectors", 5),
    ]
    assert usage["totals"] == [{"signal": "logs", "items": 38, "bytes": 380}]
    assert usage["copiedUntil"]
    assert {(one["signal"], one["itemsUsed"], one["itemsMax"]) for one in usage["quotas"]} == {
        ("logs", 38, None),
        ("metrics", 0, None),
        ("traces", 0, None),
    }
    assert (await ada.get("/usage?signal=traces")).json["totals"] == []


async def test_S31_usage_of_another_tenant_is_out_of_reach(
    product: Running, clickhouse: ClickHouse, ada: Client
) -> None:
    bob = await product.registered("bob@example.com")
    keys = [await new_key(client) for client in (ada, bob)]
    for key in keys:
        await tell(clickhouse, utc_now(), await telemetry_id(product, key), key["keyId"], items=5)
    # A row that claims another tenant's key.
    await tell(
        clickhouse, utc_now(), await telemetry_id(product, keys[1]), keys[0]["keyId"], items=1_000
    )
    await product.control.usage.copy()
    for granularity in ("day", "hour"):
        path = (
            f"/api-keys/{keys[0]['id']}/usage?granularity={granularity}&from={utc_now():%Y-%m-%d}"
        )
        own, other = await ada.get(path), await bob.get(path)
        assert [one["items"] for one in own.json["data"]] == [5]
        assert other.status == 404
    assert (await ada.get("/usage")).json["totals"][0]["items"] == 5
    assert {one["apiKeyId"] for one in (await bob.get("/usage")).json["keys"]} == {
        None,
        keys[1]["id"],
    }
    assert (await ada.get("/api-keys")).json["data"][0]["recentItems"] == 5


async def test_F77_a_copy_that_is_repeated_changes_nothing_and_late_documents_count(
    product: Running, clickhouse: ClickHouse, ada: Client
) -> None:
    key = await new_key(ada)
    tenant = await telemetry_id(product, key)
    copy = product.control.usage
    old = utc_now() - timedelta(days=40)
    for at in (old, utc_now()):
        await tell(clickhouse, at, tenant, key["keyId"], items=5, told_at=at)
    await copy.copy()
    first = await day_rows(product)
    assert await copy.copy() == 1
    assert await day_rows(product) == first

    # Weeks later a dead letter is replayed.
    await tell(clickhouse, old, tenant, key["keyId"], items=2)
    await copy.copy()
    assert [row["items"] for row in await day_rows(product)] == [7, 5]
    assert [row["bytes"] for row in await day_rows(product)] == [70, 50]

    # A copy that died before it noted how far it came, and a clock that was put back.
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute("UPDATE usage_copies SET copied_until = now() + interval '1 day'")
    await tell(clickhouse, utc_now(), tenant, key["keyId"], items=1)
    await copy.copy()
    assert [row["items"] for row in await day_rows(product)] == [7, 6]
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute("DELETE FROM usage_copies")
    await copy.copy()
    assert [row["items"] for row in await day_rows(product)] == [7, 6]


async def test_the_days_of_usage_are_those_of_utc(
    product: Running, clickhouse: ClickHouse, ada: Client
) -> None:
    key = await new_key(ada)
    tenant = await telemetry_id(product, key)
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    await tell(clickhouse, midnight - timedelta(minutes=1), tenant, key["keyId"], items=1)
    await tell(clickhouse, midnight, tenant, key["keyId"], items=2)
    await product.control.usage.copy()
    assert [(row["day"], row["items"]) for row in await day_rows(product)] == [
        (date(2026, 2, 28), 1),
        (date(2026, 3, 1), 2),
    ]


async def test_without_clickhouse_days_are_shown_and_it_is_said_once(
    product: Running,
    clickhouse: ClickHouse,
    server: EmbeddedServer,
    ada: Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = await new_key(ada)
    await tell(clickhouse, utc_now(), await telemetry_id(product, key), key["keyId"], items=5)
    copy = product.control.usage
    await copy.copy()
    caplog.set_level(logging.INFO, "control.api_keys.usage")
    server.end(signal.SIGKILL)
    try:
        for _time in range(3):
            await copy.step(now=utc_now())
        path = f"/api-keys/{key['id']}/usage"
        days = await ada.get(path)
        hours = await ada.get(f"{path}?granularity=hour&from={today()}")
    finally:
        server.start()
    await copy.step(now=utc_now())
    assert [one["items"] for one in days.json["data"]] == [5]
    assert hours.status == 503
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_range_that_makes_no_sense_is_refused(ada: Client) -> None:
    key = await new_key(ada)
    for query, field in (
        ("from=2026-02-30", "from"),
        ("to=0", "to"),
        ("from=2026-02-02&to=2026-02-01", "from"),
        ("from=2020-01-01&to=2026-02-01", "from"),
        ("granularity=hour&from=2026-01-01&to=2026-02-01", "granularity"),
        ("granularity=minute", "granularity"),
        ("signal=profiles", "signal"),
    ):
        answer = await ada.get(f"/api-keys/{key['id']}/usage?{query}")
        assert answer.status == 400, query
        assert [one["field"] for one in answer.json["errors"]] == [field], query
    assert (await ada.get(f"/api-keys/{key['id']}/usage?to=0001-01-01")).status == 200


async def test_G20_the_way_from_a_stored_row_to_the_gateways_takes_ten_seconds(
    product: Running,
) -> None:
    waits = (
        product.control.settings.writer_batch_wait_ms / 1_000,
        ledger.GATHER_SECONDS + ledger.LOOK_SECONDS,
        usage.COPY_SECONDS,
        # Should the notice of PostgreSQL be lost.
        directory.POLL_SECONDS,
    )
    assert sum(waits) <= 10


async def test_G20_a_look_between_two_wide_ones_finds_what_is_told_now_and_the_next_what_was_late(
    product: Running, clickhouse: ClickHouse, ada: Client
) -> None:
    key = await new_key(ada)
    tenant = await telemetry_id(product, key)
    passed = [0.0]
    copy = usage.UsageCopy(
        product.control.database, clickhouse, "telemetry", clock=lambda: passed[0]
    )
    now = utc_now()

    async def items() -> list[int]:
        await copy.step(now=now)
        return [row["items"] for row in await day_rows(product)]

    async def tells(count: int, *, at: datetime = now, told_at: datetime) -> None:
        await tell(clickhouse, at, tenant, key["keyId"], items=count, told_at=told_at)

    await tells(5, told_at=now)
    assert await items() == [5]

    # Visible minutes after it was told, and told now of a day that is over.
    other_day = now - timedelta(days=2)
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute("DELETE FROM usage_days")
    await clickhouse.command("TRUNCATE TABLE telemetry.tf_usage")
    await tells(1, told_at=now - timedelta(minutes=4))
    await tells(2, at=other_day, told_at=utc_now())
    assert await items() == []
    passed[0] = usage.WIDE_SECONDS
    assert await items() == [2, 1]

    await tells(3, told_at=utc_now())
    passed[0] += usage.COPY_SECONDS
    assert await items() == [2, 4]
