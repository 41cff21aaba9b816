"""Browsers and the API: which pages may call it."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared.cors.commands import CONFIGURATIONS_OF_A_TENANT_MAX
from shared.errors import TelemetryFlowError
from shared.postgres.address import PostgresAddress
from tests.control.product import Running, running, settings_for

PAGE = "https://app.example.com"
FOREIGN = "https://app.example.com.evil.com"


async def test_pages_of_allowed_origins_may_call_and_others_may_not(
    database_address: PostgresAddress, tmp_path: Path
) -> None:
    settings = settings_for(database_address, tmp_path, cors_origin=f"{PAGE}, https://x.example")
    async with running(settings, tmp_path) as product:
        asking = {"Access-Control-Request-Method": "POST", "Origin": PAGE}
        preflight = await product.client.ask("OPTIONS", "/users", headers=asking)
        foreign = await product.client.ask(
            "OPTIONS", "/users", headers=asking | {"Origin": FOREIGN}
        )
        answer = await product.client.get("/users", Origin=PAGE)
        kept_away = await product.client.get("/users", Origin=FOREIGN)

    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == PAGE
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert foreign.status == 403
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Access-Control-Allow-Origin" not in kept_away.headers
    assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_without_a_setting_no_page_of_another_origin_may_call(
    database_address: PostgresAddress, tmp_path: Path
) -> None:
    async with running(settings_for(database_address, tmp_path), tmp_path) as product:
        answer = await product.client.get("/users", Origin=PAGE)

    assert "Access-Control-Allow-Origin" not in answer.headers


RULES = {"name": "Web application", "origins": [PAGE]}


async def test_a_tenants_rules_are_kept_changed_switched_and_deleted(product: Running) -> None:
    ada = await product.registered("ada@example.com")

    made = await ada.post("/cors", RULES | {"origins": ["https://App.Example.com:443"]})
    path = f"/cors/{made.json['id']}"
    again = await ada.post("/cors", RULES)
    off = await ada.post(f"{path}/deactivate")
    changed = await ada.patch(path, {"methods": ["get"]}, **{"If-Match": off.headers["ETag"]})
    late = await ada.patch(path, {"name": "Late"}, **{"If-Match": '"1"'})
    on = await ada.post(f"{path}/activate")
    listed = await ada.get("/cors?search=web&sort=name")
    gone = await ada.delete(path)

    assert (made.status, made.json["origins"], made.json["isActive"]) == (201, [PAGE], True)
    assert made.json["methods"] == ["GET", "POST", "PUT", "DELETE", "PATCH"]
    assert made.json["maxAge"] == 86_400
    assert again.status == 409
    assert (changed.status, changed.json["methods"], changed.json["isActive"]) == (
        200,
        ["GET"],
        False,
    )
    assert (late.status, on.json["isActive"]) == (412, True)
    assert [one["id"] for one in listed.json["data"]] == [made.json["id"]]
    assert (gone.status, (await ada.get(path)).status) == (204, 404)
    kinds = await product.control.database.pool.fetch(
        "SELECT event_type FROM outbox WHERE aggregate_id = $1 ORDER BY position",
        UUID(made.json["id"]),
    )
    assert [one["event_type"] for one in kinds] == [
        "CORSConfigCreated",
        *["CORSConfigUpdated"] * 3,
        "CORSConfigDeleted",
    ]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"origins": ["*"], "credentials": True}, "origins"),
        ({"origins": ["https://*.com"]}, "origins.0"),
        ({"origins": ["https://a.example/path"]}, "origins.0"),
        ({"methods": ["TRACE"]}, "methods"),
        ({"headers": ["*"]}, "headers.0"),
        ({"maxAge": 86_401}, "maxAge"),
        ({"name": "  "}, "name"),
    ],
)
async def test_rules_that_are_wrong_are_told_by_field(
    product: Running, fields: dict[str, Any], field: str
) -> None:
    ada = await product.registered("ada@example.com")

    answer = await ada.post("/cors", RULES | fields)

    assert answer.status == 400
    assert [error["field"] for error in answer.json["errors"]] == [field]


async def test_S31_rules_of_another_organization_do_not_exist(product: Running) -> None:
    ada = await product.registered("ada@example.com")
    eve = await product.registered("eve@example.com")
    made = await ada.post("/cors", RULES)
    path = f"/cors/{made.json['id']}"

    answers = [
        await eve.get(path),
        await eve.patch(path, {"name": "Mine"}),
        await eve.post(f"{path}/deactivate"),
        await eve.delete(path),
    ]

    assert [answer.status for answer in answers] == [404] * 4
    assert (await eve.get("/cors")).json["data"] == []
    assert (await ada.get(path)).json["version"] == 1


async def test_rules_allow_pages_for_people_of_their_tenant_alone(product: Running) -> None:
    ada = await product.registered("ada@example.com")
    eve = await product.registered("eve@example.com")
    made = await ada.post("/cors", RULES | {"credentials": True, "headers": ["Authorization"]})
    await product.cors.refresh()
    asking = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}

    preflight = await product.client.ask("OPTIONS", "/users", headers=asking)
    other_header = await product.client.ask(
        "OPTIONS", "/users", headers=asking | {"Access-Control-Request-Headers": "x-other"}
    )
    foreign = await product.client.ask("OPTIONS", "/users", headers=asking | {"Origin": FOREIGN})
    of_ada = await ada.get("/users", Origin=PAGE)
    of_eve = await eve.get("/users", Origin=PAGE)
    of_nobody = await product.client.get("/users", Origin=PAGE)
    await ada.post(f"/cors/{made.json['id']}/deactivate")
    await product.cors.refresh()
    off = await ada.get("/users", Origin=PAGE)
    refused = await product.client.ask("OPTIONS", "/users", headers=asking)

    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == PAGE
    assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
    assert (other_header.status, foreign.status) == (403, 403)
    assert of_ada.headers["Access-Control-Allow-Origin"] == PAGE
    assert (of_eve.status, of_nobody.status) == (200, 401)
    assert "Access-Control-Allow-Origin" not in of_eve.headers
    # A page must be able to read that it has to sign in.
    assert of_nobody.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Access-Control-Allow-Origin" not in off.headers
    assert refused.status == 403
    assert {answer.headers["Vary"] for answer in (preflight, foreign, of_ada, of_eve)} == {"Origin"}


async def test_a_tenant_has_a_limited_number_of_rules(product: Running) -> None:
    ada = await product.registered("ada@example.com")
    for number in range(CONFIGURATIONS_OF_A_TENANT_MAX):
        assert (await ada.post("/cors", RULES | {"name": str(number)})).status == 201

    one_more = await ada.post("/cors", RULES)

    assert one_more.status == 409
    assert "at most 20" in one_more.json["detail"]


async def test_without_the_database_the_last_known_rules_stand(
    database_address: PostgresAddress, tmp_path: Path
) -> None:
    async with running(settings_for(database_address, tmp_path), tmp_path) as product:
        ada = await product.registered("ada@example.com")
        await ada.post("/cors", RULES)
        stopping = asyncio.Event()
        following = asyncio.create_task(product.cors.follow(stopping))
        asking = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
        while (await product.client.ask("OPTIONS", "/users", headers=asking)).status != 204:
            await asyncio.sleep(0.02)
        await product.control.database.close()

        with pytest.raises(TelemetryFlowError):
            await product.cors.refresh()
        answer = await product.client.ask("OPTIONS", "/users", headers=asking)
        stopping.set()
        await following

    assert answer.status == 204
