"""What ends a session is in force at the next request."""

from uuid import uuid4

from tests.control.auth_people import (
    ADA,
    OTHER_PASSWORD,
    execute,
    joined,
    recorded,
    sign_in_from,
)
from tests.control.client import Client
from tests.control.product import PASSWORD, Running

HERE = "203.0.113.7"


async def another(product: Running, password: str = PASSWORD) -> Client:
    return await product.as_person(ADA, password)


async def status_of(client: Client) -> int:
    return (await client.get("/auth/me")).status


async def test_S14_signing_out_ends_this_session_alone(product: Running) -> None:
    first = await product.registered(ADA)
    second = await another(product)

    assert (await first.post("/auth/logout")).status == 204

    assert (await status_of(first), await status_of(second)) == (401, 200)
    assert [event["everywhere"] for event in await recorded(product, "AuthLogout")] == [False]


async def test_S14_signing_out_everywhere_ends_all_sessions(product: Running) -> None:
    first = await product.registered(ADA)
    second = await another(product)

    assert (await first.post("/auth/logout?everywhere=true")).status == 204

    assert (await status_of(first), await status_of(second)) == (401, 401)


async def test_S14_a_changed_password_ends_the_other_sessions(product: Running) -> None:
    first = await product.registered(ADA)
    second = await another(product)

    changed = await second.post(
        "/auth/change-password", {"currentPassword": PASSWORD, "newPassword": OTHER_PASSWORD}
    )

    assert changed.status == 200, changed.text
    assert (await status_of(first), await status_of(second)) == (401, 200)


async def test_S14_who_is_deactivated_is_out_at_once_and_signs_in_anew(product: Running) -> None:
    admin = await product.as_admin()
    ada, user_id = await joined(product, admin)

    await admin.post(f"/users/{user_id}/deactivate")
    at_once = await status_of(ada)
    await product.work()
    await admin.post(f"/users/{user_id}/activate")

    assert at_once == 401
    assert await status_of(ada) == 401
    assert await status_of(await another(product)) == 200


async def test_S14_who_is_deleted_is_out_at_once_and_back_when_restored(product: Running) -> None:
    admin = await product.as_admin()
    ada, user_id = await joined(product, admin)

    await admin.delete(f"/users/{user_id}")
    at_once = await status_of(ada)
    await product.work()
    refused = await sign_in_from(product, HERE)
    restored = await admin.post(f"/users/{user_id}/restore")
    await product.work()

    assert (at_once, refused.status) == (401, 401)
    assert restored.status == 200, restored.text
    assert await status_of(await another(product)) == 200


async def test_G14_sessions_are_listed_and_ended_one_by_one(product: Running) -> None:
    first = await product.registered(ADA)
    second = await another(product)
    listed = (await first.get("/auth/sessions")).json["data"]
    (other,) = [one["id"] for one in listed if not one["isCurrent"]]

    ended = await first.delete(f"/auth/sessions/{other}")
    again = await first.delete(f"/auth/sessions/{other}")

    assert len(listed) == 2
    assert (ended.status, again.status) == (204, 404)
    assert (await status_of(first), await status_of(second)) == (200, 401)
    assert len((await first.get("/auth/sessions")).json["data"]) == 1
    assert len(await recorded(product, "SessionRevoked")) == 1


async def test_S31_nobody_sees_or_ends_sessions_of_others(product: Running) -> None:
    ada = await product.registered(ADA)
    bob = await product.registered("bob@example.com")
    (session,) = (await ada.get("/auth/sessions")).json["data"]

    foreign = await bob.delete(f"/auth/sessions/{session['id']}")
    unknown = await bob.delete(f"/auth/sessions/{uuid4()}")

    assert (foreign.status, unknown.status) == (404, 404)
    assert foreign.json["detail"] == unknown.json["detail"]
    assert await status_of(ada) == 200


async def test_S33_a_tenant_in_the_header_must_be_theirs(product: Running) -> None:
    ada = await product.registered(ADA)
    bob = await product.registered("bob@example.com")
    theirs = (await bob.get("/auth/me")).json["tenantId"]
    own = (await ada.get("/auth/me")).json["tenantId"]

    statuses = {
        text: (await ada.get("/auth/me", **{"X-Tenant-Id": text})).status
        for text in (own, theirs, str(uuid4()), "no-uuid", "*")
    }

    assert statuses.pop(own) == 200
    assert set(statuses.values()) == {403}


async def test_S33_who_runs_the_platform_is_in_a_tenant_for_as_long_as_it_is_active(
    product: Running,
) -> None:
    admin, bob = await product.as_admin(), await product.registered("bob@example.com")
    theirs = (await bob.get("/auth/me")).json["tenantId"]

    async def status_there() -> int:
        return (await admin.get("/auth/me", **{"X-Tenant-Id": theirs})).status

    statuses = [await status_there()]
    for action in ("deactivate", "activate"):
        switched = await admin.post(f"/tenants/{theirs}/{action}")
        assert switched.status == 200, switched.text
        statuses.append(await status_there())
    deleted = await admin.delete(f"/tenants/{theirs}")
    assert deleted.status == 204, deleted.text
    statuses.append(await status_there())

    assert statuses == [200, 403, 200, 403]


async def test_an_expired_password_is_to_be_changed_before_anything_else(product: Running) -> None:
    ada = await product.registered(ADA)
    await execute(
        product,
        "UPDATE accounts SET password_changed_at = now() - interval '91 days' WHERE email = $1",
        ADA,
    )

    refused = await ada.get("/tenants")
    status = (await ada.get("/auth/password/status")).json
    changed = await ada.post(
        "/auth/change-password", {"currentPassword": PASSWORD, "newPassword": OTHER_PASSWORD}
    )

    assert refused.status == 403
    assert "expired" in refused.json["detail"]
    assert status["expiresAt"] < status["changedAt"] or status["expiresAt"] is not None
    assert changed.status == 200, changed.text
    assert (await ada.get("/tenants")).status == 200
