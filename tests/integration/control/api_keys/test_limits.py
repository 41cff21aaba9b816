"""Limits over real HTTP on a real PostgreSQL: of keys, tenants and plans."""

from typing import Any

import pytest

from shared.postgres.scope import PLATFORM
from tests.control.client import Client
from tests.control.product import Running

NEW = {"name": "Collectors"}
NONE = {"requestsPerMinute": None, "itemsPerSecond": None, "bytesPerSecond": None}
PLAN = {
    "description": "To try it",
    "limits": {"requestsPerMinute": 600, "itemsPerSecond": 100, "newSeriesPerHour": 5_000},
    "quotas": {"tracesPerMonth": 1_000, "graceDays": 3},
}


@pytest.fixture
async def ada(product: Running) -> Client:
    """Administers an organization of her own."""
    return await product.registered("ada@example.com")


@pytest.fixture
async def admin(product: Running) -> Client:
    """Runs the platform."""
    return await product.as_admin()


async def give_plan(admin: Client, person: Client, plan: str, body: Any = PLAN) -> None:
    """Set up *plan* and give it to *person*'s organization."""
    tenant = (await person.get("/tenants")).json["data"][0]
    path = f"/organizations/{tenant['organizationId']}/ingestion-plan"
    assert (await admin.ask("PUT", f"/ingestion-plans/{plan}", body)).status == 200
    assert (await admin.ask("PUT", path, {"plan": plan})).json["plan"] == plan
    assert (await admin.get(path)).json["plan"] == plan


async def test_a_key_carries_limits_of_its_own_through_changes_and_rotation(ada: Client) -> None:
    plain = (await ada.post("/api-keys", NEW)).json["key"]
    made = (await ada.post("/api-keys", NEW | {"limits": {"requestsPerMinute": 60}})).json["key"]
    path = f"/api-keys/{made['id']}"
    renamed = (await ada.patch(path, {"name": "Agents"})).json
    changed = (await ada.patch(path, {"limits": {"itemsPerSecond": 5}})).json
    rotated = (await ada.post(f"{path}/rotate", {})).json["key"]
    bad = await ada.patch(f"/api-keys/{rotated['id']}", {"limits": {"itemsPerSecond": 0}})

    assert plain["limits"] == NONE
    assert made["limits"] == renamed["limits"] == NONE | {"requestsPerMinute": 60}
    assert changed["limits"] == rotated["limits"] == NONE | {"itemsPerSecond": 5}
    assert (bad.status, bad.json["errors"][0]["field"]) == (400, "limits.itemsPerSecond")


async def test_a_tenants_limits_are_the_lower_of_its_plans_and_its_own(
    admin: Client, ada: Client
) -> None:
    before = (await ada.get("/ingestion-limits")).json
    await give_plan(admin, ada, "free")
    own = {"requestsPerMinute": 60, "bytesPerSecond": 1_000, "newAttributeKeysPerHour": 50}
    after = await ada.ask("PUT", "/ingestion-limits", own)
    read = (await ada.get("/ingestion-limits")).json

    assert (before["plan"], before["version"]) == ("unlimited", 0)
    assert {one["source"] for one in before["inForce"].values()} == {"none"}
    assert after.json == read
    assert (read["plan"], read["version"]) == ("free", 1)
    assert read["quotas"] == {
        "tracesPerMonth": 1_000,
        "metricsPerMonth": None,
        "logsPerMonth": None,
        "graceDays": 3,
    }
    assert read["inForce"] == {
        "requestsPerMinute": {"value": 60, "source": "tenant"},
        "itemsPerSecond": {"value": 100, "source": "plan"},
        "bytesPerSecond": {"value": 1_000, "source": "tenant"},
        "newSeriesPerHour": {"value": 5_000, "source": "plan"},
        "newAttributeKeysPerHour": {"value": 50, "source": "tenant"},
    }


async def test_a_tenant_goes_only_below_its_plan_and_a_lower_plan_holds_at_once(
    admin: Client, ada: Client
) -> None:
    await give_plan(admin, ada, "free")
    above = await ada.ask("PUT", "/ingestion-limits", {"itemsPerSecond": 101})
    equal = await ada.ask("PUT", "/ingestion-limits", {"itemsPerSecond": 100})
    await give_plan(admin, ada, "free", PLAN | {"limits": {"itemsPerSecond": 7}})
    lowered = (await ada.get("/ingestion-limits")).json

    assert (above.status, above.json["errors"][0]["field"]) == (400, "itemsPerSecond")
    assert equal.status == 200
    assert lowered["inForce"]["itemsPerSecond"] == {"value": 7, "source": "plan"}


async def test_guards_against_cardinality_are_of_plans_and_tenants_and_not_of_keys(
    admin: Client, ada: Client
) -> None:
    guards = {"newSeriesPerHour": 10, "newAttributeKeysPerHour": 20}
    await give_plan(admin, ada, "free", PLAN | {"limits": guards})
    above = await ada.ask("PUT", "/ingestion-limits", {"newSeriesPerHour": 11})
    none = await ada.ask("PUT", "/ingestion-limits", {"newAttributeKeysPerHour": 0})
    of_key = await ada.post("/api-keys", NEW | {"limits": {"newSeriesPerHour": 5}})
    [plan] = [
        one for one in (await ada.get("/ingestion-plans")).json["data"] if one["name"] == "free"
    ]

    assert (above.status, above.json["errors"][0]["field"]) == (400, "newSeriesPerHour")
    assert (none.status, none.json["errors"][0]["field"]) == (400, "newAttributeKeysPerHour")
    assert of_key.status == 400
    assert plan["limits"] == NONE | guards


async def test_edits_of_limits_and_plans_heed_if_match(admin: Client, ada: Client) -> None:
    await give_plan(admin, ada, "pro")
    await ada.ask("PUT", "/ingestion-limits", {"itemsPerSecond": 10})
    version = {"If-Match": '"1"'}
    assert (await ada.get("/ingestion-limits")).headers["ETag"] == version["If-Match"]
    second = await ada.ask("PUT", "/ingestion-limits", {"itemsPerSecond": 11}, headers=version)
    late = await ada.ask("PUT", "/ingestion-limits", {"itemsPerSecond": 12}, headers=version)
    plan_late = await admin.ask("PUT", "/ingestion-plans/pro", PLAN, headers=version)

    assert (second.json["version"], late.status, plan_late.status) == (2, 412, 412)


async def test_S30_plans_are_seen_by_tenants_and_changed_by_who_runs_the_platform(
    admin: Client, ada: Client
) -> None:
    tenant = (await ada.get("/tenants")).json["data"][0]
    path = f"/organizations/{tenant['organizationId']}/ingestion-plan"

    seen = (await ada.get("/ingestion-plans")).json["data"]
    assert [plan["name"] for plan in seen] == ["enterprise", "free", "pro", "unlimited"]
    assert (await ada.ask("PUT", "/ingestion-plans/free", PLAN)).status == 403
    assert (await ada.ask("PUT", path, {"plan": "pro"})).status == 403
    assert (await admin.ask("PUT", "/ingestion-plans/unlimited", PLAN)).status == 409
    assert (await admin.ask("PUT", "/ingestion-plans/gold", PLAN)).status == 404
    assert (await admin.ask("PUT", path, {"plan": "gold"})).status == 404


async def test_S32_limits_of_another_organization_are_out_of_reach(
    product: Running, admin: Client, ada: Client
) -> None:
    await give_plan(admin, ada, "free")
    await ada.ask("PUT", "/ingestion-limits", {"itemsPerSecond": 10})
    grace = await product.registered("grace@example.com")

    hers = (await grace.get("/ingestion-limits")).json

    assert (hers["plan"], hers["version"]) == ("unlimited", 0)


async def test_who_changed_a_limit_is_in_the_trail(
    product: Running, admin: Client, ada: Client
) -> None:
    await give_plan(admin, ada, "free")
    await ada.ask("PUT", "/ingestion-limits", {"itemsPerSecond": 10})
    await product.work()

    async with product.control.database.read(PLATFORM) as connection:
        events = await connection.fetch(
            "SELECT event_type FROM outbox WHERE event_type LIKE '%Ingestion%' "
            "OR event_type LIKE '%Limits%' ORDER BY position"
        )
    assert [event["event_type"] for event in events] == [
        "IngestionPlanChanged",
        "IngestionPlanAssigned",
        "TenantLimitsChanged",
    ]
