"""Quotas on a real PostgreSQL: rows for gateways, events, and mails to administrators."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from control.api_keys.directory import DirectoryFeed
from control.api_keys.domain.quotas import month_of
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from tests.control.client import Client
from tests.control.product import Running

ADA = "ada@example.com"


@pytest.fixture
async def ada(product: Running) -> Client:
    """Administers an organization of her own."""
    return await product.registered(ADA)


async def tenant_of(ada: Client) -> dict[str, Any]:
    tenants: list[dict[str, Any]] = (await ada.get("/tenants")).json["data"]
    return tenants[0]


async def has_stored(product: Running, tenant: dict[str, Any], at: datetime, items: int) -> None:
    """So many log records of that day, with the plan `free` of 100 000 a month."""
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute(
            """
            INSERT INTO organization_plans (organization_id, version, plan) VALUES ($1, 1, 'free')
            ON CONFLICT DO NOTHING
            """,
            UUID(tenant["organizationId"]),
        )
        await connection.execute(
            """
            INSERT INTO usage_days VALUES ($1, $2, '', 'logs', $3, $4, 0)
            ON CONFLICT (tenant_id, key_id, day, signal) DO UPDATE SET items = $4
            """,
            UUID(tenant["organizationId"]),
            UUID(tenant["id"]),
            at.astimezone(UTC).date(),
            items,
        )


async def noted(product: Running) -> list[Any]:
    async with product.control.database.read(PLATFORM) as connection:
        rows = await connection.fetch("SELECT xmin::text, * FROM ingestion_quotas")
    return [dict(row) for row in rows]


async def test_G20_quotas_are_noted_told_and_mailed_at_each_step(
    product: Running, ada: Client
) -> None:
    tenant = await tenant_of(ada)
    copy, now = product.control.usage, utc_now()
    feed = DirectoryFeed(product.control.database, product.control.settings.retention_days)
    await feed.refresh()
    states = []
    for items, days in ((79_999, 0), (80_000, 0), (100_000, 0), (100_500, 6), (100_500, 7)):
        await has_stored(product, tenant, month_start(now), items)
        for _again in range(2):
            await copy.keep_quotas(now=month_start(now) + timedelta(days=days))
        states += [(row["state"], row["items_used"]) for row in await noted(product)]
    await product.work()
    # Each is a job of its own: whichever is done first.
    subjects = sorted(mail["Subject"] for mail in product.mails(ADA))
    mails = [subject for subject in subjects if "quota" in subject]

    assert states == [
        ("nearly_used", 80_000),
        ("grace", 100_000),
        # 500 more are no news.
        ("grace", 100_000),
        ("refused", 100_500),
    ]
    assert mails == [
        "80 % of the monthly quota of logs are used",
        "The monthly quota of logs is used up",
        "The monthly quota of logs is used up: more is refused",
    ]
    actions = [one["action"] for one in (await ada.get("/audit-logs?limit=100")).json["data"]]
    assert [one for one in actions if one.startswith("ingestion_quota")] == [
        "ingestion_quota.refused",
        "ingestion_quota.used_up",
        "ingestion_quota.nearly_used",
    ]
    # Gateways are told.
    assert await feed.refresh()


def month_start(now: datetime) -> datetime:
    """Also on the last of a month the steps of this test are in the same one."""
    first = month_of(now)
    return datetime(first.year, first.month, 1, 12, tzinfo=UTC)


async def test_what_is_repeated_writes_nothing_and_wakes_no_gateway(
    product: Running, ada: Client
) -> None:
    tenant = await tenant_of(ada)
    now = utc_now()
    await has_stored(product, tenant, now, 90_000)
    await product.control.usage.keep_quotas(now=now)
    feed = DirectoryFeed(product.control.database, product.control.settings.retention_days)
    await feed.refresh()
    before = await noted(product)
    await has_stored(product, tenant, now, 90_999)
    await product.control.usage.keep_quotas(now=now)
    assert await noted(product) == before
    assert not await feed.refresh()
    await has_stored(product, tenant, now, 91_000)
    await product.control.usage.keep_quotas(now=now)
    assert [row["items_used"] for row in await noted(product)] == [91_000]


async def test_rows_vanish_with_the_month_and_with_a_plan_that_has_room(
    product: Running, ada: Client
) -> None:
    tenant = await tenant_of(ada)
    now = utc_now()
    copy = product.control.usage
    await has_stored(product, tenant, now, 150_000)
    await copy.keep_quotas(now=now)
    assert [row["state"] for row in await noted(product)] == ["grace"]
    await copy.keep_quotas(now=now + timedelta(days=40))
    assert await noted(product) == []
    await copy.keep_quotas(now=now)
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute("UPDATE organization_plans SET plan = 'pro'")
    await copy.keep_quotas(now=now)
    assert await noted(product) == []
    quotas = {one["signal"]: one for one in (await ada.get("/usage")).json["quotas"]}
    assert (quotas["logs"]["itemsUsed"], quotas["logs"]["itemsMax"]) == (150_000, 10_000_000)
    assert quotas["logs"]["itemsForecast"] >= 150_000
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute("DELETE FROM organization_plans")
    await copy.keep_quotas(now=now)
    assert await noted(product) == []


async def test_a_quota_is_the_organizations_and_no_other_ones(
    product: Running, ada: Client
) -> None:
    bob = await product.registered("bob@example.com")
    of_ada, of_bob = await tenant_of(ada), await tenant_of(bob)
    now = utc_now()
    await has_stored(product, of_ada, now, 60_000)
    await has_stored(product, of_bob, now, 60_000)
    made = await ada.post(
        "/tenants",
        {"name": "Second", "slug": "second", "workspaceId": of_ada["workspaceId"]},
    )
    assert made.status == 201, made.text
    await has_stored(product, made.json, now, 50_000)
    await product.control.usage.keep_quotas(now=now)
    rows = await noted(product)
    assert [(str(row["organization_id"]), row["items_used"]) for row in rows] == [
        (of_ada["organizationId"], 110_000)
    ]
    shown = {one["signal"]: one for one in (await ada.get("/usage")).json["quotas"]}
    assert (shown["logs"]["state"], shown["logs"]["itemsUsed"]) == ("grace", 110_000)
    others = {one["signal"]: one for one in (await bob.get("/usage")).json["quotas"]}
    assert (others["logs"]["state"], others["logs"]["itemsUsed"]) == (None, 60_000)
