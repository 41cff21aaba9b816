"""What time alone brings about, on a real PostgreSQL."""

from datetime import timedelta
from typing import Any

from control.demo import RESET_EVERY, make_demo, reset_demo
from control.housekeeping import SET_ASIDE, purge_deleted
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from tests.control.product import PASSWORD, Running

VISITOR = {"email": "visitor@example.com", "firstName": "V", "lastName": "V"}


async def rows(product: Running, statement: str, *values: Any) -> list[Any]:
    async with product.control.database.read(PLATFORM) as connection:
        return list(await connection.fetch(statement, *values))


async def test_what_visitors_did_to_the_demo_is_undone_and_nothing_else_is_touched(
    product: Running,
) -> None:
    people = {one.role: one for one in await make_demo(product.control)}
    ada = await product.registered("ada@example.com")
    await product.work()
    administrator = people["Administrator"]
    visitor = await product.as_person(administrator.email, administrator.password)
    groups = (await visitor.get("/groups?sort=name")).json["data"]
    assert (await visitor.post("/invitations", VISITOR)).status == 201
    assert (await visitor.post("/roles", {"name": "Own", "permissions": []})).status == 201
    assert (await visitor.delete(f"/groups/{groups[0]['id']}")).status == 204
    changed = await visitor.post(
        "/auth/change-password",
        {"currentPassword": administrator.password, "newPassword": PASSWORD},
    )
    assert changed.status == 200
    await product.work()

    early = await reset_demo(product.control, now=utc_now() + RESET_EVERY / 2)
    due = await reset_demo(product.control, now=utc_now() + RESET_EVERY)
    again = await reset_demo(product.control, now=utc_now() + RESET_EVERY * 1.5)
    await product.work()

    assert (early, due, again) == (False, True, False)
    assert (await visitor.get("/users")).status == 401
    assert (await product.sign_in(administrator.email, PASSWORD)).status == 401
    for person in people.values():
        assert (await product.sign_in(person.email, person.password)).status == 200, person.role
    back = await product.as_person(administrator.email, administrator.password)
    assert {one["email"] for one in (await back.get("/users")).json["data"]} == {
        person.email for person in people.values()
    }
    assert [one["name"] for one in (await back.get("/groups?sort=name")).json["data"]] == [
        one["name"] for one in groups
    ]
    assert "Own" not in {one["name"] for one in (await back.get("/roles")).json["data"]}
    assert (await ada.get("/users")).json["meta"]["total"] == 1
    assert (await product.sign_in(product.admin.email, product.admin.password)).status == 200
    assert await rows(product, "SELECT FROM outbox WHERE event_type = 'DemoReset'")
    assert not await rows(product, "SELECT FROM accounts WHERE email = $1", VISITOR["email"])


async def test_an_installation_without_a_demo_resets_nothing(product: Running) -> None:
    assert not await reset_demo(product.control, now=utc_now() + RESET_EVERY * 2)


async def test_a_demo_that_was_deleted_stays_so(product: Running) -> None:
    await make_demo(product.control)
    admin = await product.as_admin()
    (demo,) = (await admin.get("/organizations?search=demo")).json["data"]
    assert (await admin.delete(f"/organizations/{demo['id']}")).status == 204

    assert not await reset_demo(product.control, now=utc_now() + RESET_EVERY * 2)


async def test_what_is_deleted_is_purged_after_90_days(product: Running) -> None:
    admin = await product.as_admin()
    await product.registered("ada@example.com")
    assert await rows(product, "SELECT FROM accounts WHERE email = 'ada@example.com'")
    (company,) = [
        one
        for one in (await admin.get("/organizations")).json["data"]
        if one["name"].startswith("Ada")
    ]
    assert (await admin.delete(f"/organizations/{company['id']}")).status == 204

    early = await purge_deleted(product.control, now=utc_now() + SET_ASIDE - timedelta(hours=1))
    late = await purge_deleted(product.control, now=utc_now() + SET_ASIDE + timedelta(hours=1))
    await product.work()

    assert (early, late) == (0, 1)
    deleted = await admin.get("/organizations?deleted=true")
    assert company["id"] not in {one["id"] for one in deleted.json["data"]}
    # Nothing of its people is left, so that they may come back as somebody new.
    assert not await rows(product, "SELECT FROM accounts WHERE email = 'ada@example.com'")
    await product.registered("ada@example.com")
