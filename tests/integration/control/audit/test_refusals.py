"""Calls that are refused are in the trail, and a flood of them does not flood it."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from control.audit.refusals import ALL_MAX, CALLERS_MAX, EACH_MAX, WINDOW_SECONDS, Refusals
from shared.caller import NOBODY, Caller
from shared.errors import Forbidden, RateLimited, Unauthenticated
from shared.http.refusals import Refusal
from shared.postgres.scope import PLATFORM
from tests.control.people import seed
from tests.control.product import Running, running, settings_for


@pytest.fixture
def now() -> list[float]:
    return [1_000.0]


async def recorded(product: Running) -> list[Any]:
    async with product.control.database.read(PLATFORM) as connection:
        return list(
            await connection.fetch(
                "SELECT event_type, organization_id, payload, context FROM outbox WHERE event_type"
                " IN ('SecurityEventDetected', 'RateLimitExceeded') ORDER BY position"
            )
        )


def refusal(by: Caller, error: Exception | None = None) -> Refusal:
    return Refusal(error or Forbidden("this needs the permission user:write"), by, "POST", "/users")


async def test_G04_a_denied_command_and_a_bad_token_are_in_the_trail(product: Running) -> None:
    seeded = await seed(product.control.database)
    tokens = await product.tokens_of(seeded)
    viewer = product.client.as_(tokens[4])

    denied = await viewer.post("/roles", {"name": "X", "permissions": []})
    forged = await product.client.as_("forged-by-somebody").get("/users")
    missing = await product.client.get("/users")
    await product.work()

    assert (denied.status, forged.status, missing.status) == (403, 401, 401)
    by_permission, by_token = await recorded(product)
    assert by_permission["organization_id"] == seeded.organization
    assert by_permission["context"]["userId"] == str(seeded.people[4])
    assert by_permission["payload"]["kind"] == "permission"
    assert by_permission["payload"]["detail"].startswith("POST /roles: this needs the permission")
    assert by_token["payload"]["kind"] == "bad_token"
    assert by_token["context"]["ipAddress"] == "127.0.0.1"
    assert "forged" not in str(by_token)
    trail = await product.client.as_(tokens[2]).get("/audit-logs?action=security.access_denied")
    assert [one["result"] for one in trail.json["data"]] == ["failure"]


async def test_L16_a_limit_that_is_passed_is_in_the_trail(
    database_address: Any, tmp_path: Any
) -> None:
    settings = settings_for(database_address, tmp_path, throttle_limit=2)
    async with running(settings, tmp_path) as product:
        seeded = await seed(product.control.database)
        viewer = product.client.as_((await product.tokens_of(seeded))[4])
        statuses = [(await viewer.get("/users")).status for _ in range(3)]

        assert statuses == [200, 200, 429]
        (entry,) = await recorded(product)
        assert entry["event_type"] == "RateLimitExceeded"
        assert entry["organization_id"] == seeded.organization


async def test_a_flood_by_one_person_leaves_a_few_entries_and_their_number(
    product: Running, now: list[float]
) -> None:
    refusals = Refusals(product.control.database, clock=lambda: now[0])
    eve = Caller(user_id=uuid4(), organization_id=uuid4(), ip_address="192.0.2.1")
    for _ in range(200):
        await refusals(refusal(eve))
    assert len(await recorded(product)) == EACH_MAX

    now[0] += WINDOW_SECONDS
    await refusals.flush()

    told = (await recorded(product))[-1]
    assert told["payload"]["left_out"] == 200 - EACH_MAX
    assert told["context"]["userId"] == str(eve.user_id)
    await refusals(refusal(eve))
    assert len(await recorded(product)) == EACH_MAX + 2


async def test_a_flood_from_many_addresses_is_bounded_and_every_refusal_is_counted(
    product: Running, now: list[float]
) -> None:
    refusals = Refusals(product.control.database, clock=lambda: now[0])
    tried = CALLERS_MAX + 50
    for number in range(tried):
        address = f"2001:db8::{number:x}"
        error = Unauthenticated("the token is not one of ours")
        await refusals(refusal(replace(NOBODY, ip_address=address), error))
    assert len(await recorded(product)) == ALL_MAX

    await refusals.flush(is_last=True)

    entries = await recorded(product)
    assert len(entries) < ALL_MAX * 2
    in_full = sum(1 for one in entries if not one["payload"]["left_out"])
    assert in_full + sum(one["payload"]["left_out"] for one in entries) == tried


async def test_a_person_who_asks_too_often_does_not_hide_what_else_they_try(
    product: Running, now: list[float]
) -> None:
    refusals = Refusals(product.control.database, clock=lambda: now[0])
    eve = Caller(user_id=uuid4(), organization_id=uuid4())
    for _ in range(50):
        await refusals(refusal(eve, RateLimited("too often", retry_after_seconds=1)))
    await refusals(refusal(eve))

    assert (await recorded(product))[-1]["payload"]["kind"] == "permission"
