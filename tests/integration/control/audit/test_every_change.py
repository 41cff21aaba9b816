"""G04: a walk over every route that changes something: each leaves its entry in the trail."""

import re
from typing import Any

import pytest

from control.app import ROUTES
from control.audit.actions import ACTIONS
from control.core.domain.permissions import PERMISSIONS, TIERS
from shared.postgres.scope import PLATFORM
from tests.control.auth_people import with_second_factor
from tests.control.client import Client
from tests.control.product import PASSWORD, Running

CHANGING = {
    route.name: route for module in ROUTES for route in module.found if route.method != "GET"
}
# What leaves no entry of its own, and why.
SILENT = {
    "refresh": "goes on with a session whose sign-in is told; a token that is used twice is told",
    "set_up_mfa": "nothing is in force before verify_mfa",
    "resend_verification": "tells nobody whether there is such an account; the mail is told",
    "enable_mfa": "another path of verify_mfa",
    "run_query": "reads telemetry; its body is too long for a path",
}
PERSON = {"firstName": "P", "lastName": "P"}


class Walk:
    """Takes one step after the other, and looks that each left something."""

    def __init__(self, product: Running) -> None:
        self.product = product
        self.walked: set[str] = set()

    async def step(self, client: Client, name: str, body: Any = None, /, **ids: Any) -> Any:
        route = CHANGING[name]
        path = re.sub(r"{(\w+)}", lambda match: str(ids[match[1]]), route.path)
        before = await self._entries()
        answer = await client.ask(route.method, path, body)
        assert answer.status < 300, (name, answer.text)
        assert await self._entries() > before, f"{name} leaves nothing in the trail"
        self.walked.add(name)
        return answer.json

    async def _entries(self) -> int:
        async with self.product.control.database.read(PLATFORM) as connection:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM outbox WHERE event_type = ANY($1)", list(ACTIONS)
            )
        return count


async def people(walk: Walk, admin: Client) -> None:
    user = await walk.step(admin, "create_user", {"email": "p1@example.com", **PERSON})
    one = {"id": user["id"]}
    await walk.product.work()
    await walk.step(admin, "replace_user", {"firstName": "Q"}, **one)
    await walk.step(admin, "change_user", {"firstName": "R"}, **one)
    await walk.step(admin, "change_own_profile", {"firstName": "Own"})
    await walk.step(admin, "assign_role", {"roleId": str(TIERS[3].id)}, **one)
    await walk.step(admin, "revoke_role", id=user["id"], role_id=TIERS[3].id)
    permission = PERMISSIONS["user:read"].id
    await walk.step(admin, "grant_permission", {"permissionId": str(permission)}, **one)
    await walk.step(admin, "revoke_permission", id=user["id"], permission_id=permission)
    await walk.step(admin, "deactivate_user", **one)
    await walk.step(admin, "activate_user", **one)
    await walk.step(admin, "delete_user", **one)
    await walk.step(admin, "restore_user", **one)
    await admin.delete(f"/users/{user['id']}")
    await walk.step(admin, "purge_user", **one)
    invited = await walk.step(admin, "create_invitation", {"email": "p2@example.com", **PERSON})
    # The mail of an invitation waits for the account to be made.
    await walk.product.work()
    await walk.step(admin, "resend_invitation", id=invited["id"])
    await walk.product.work()
    await walk.step(admin, "revoke_invitation", id=invited["id"])


async def roles(walk: Walk, admin: Client) -> None:
    role = await walk.step(admin, "create_role", {"name": "R", "permissions": []})
    await walk.step(admin, "replace_role", {"name": "R2"}, id=role["id"])
    await walk.step(admin, "change_role", {"permissions": ["user:read"]}, id=role["id"])
    await walk.step(admin, "delete_role", id=role["id"])
    group = await walk.step(admin, "create_group", {"name": "G"})
    await walk.step(admin, "change_group", {"name": "G2"}, id=group["id"])
    await walk.step(admin, "delete_group", id=group["id"])


async def places(walk: Walk, admin: Client) -> None:
    region = await walk.step(admin, "create_region", {"name": "R", "code": "r1"})
    await walk.step(admin, "change_region", {"name": "R2"}, id=region["id"])
    body: dict[str, Any] = {"name": "O", "slug": "o1", "regionId": region["id"]}
    organization = await walk.step(admin, "create_organization", body)
    body = {"name": "W", "slug": "w1", "organizationId": organization["id"]}
    workspace = await walk.step(admin, "create_workspace", body)
    body = {"name": "T", "slug": "t1", "workspaceId": workspace["id"]}
    tenant = await walk.step(admin, "create_tenant", body)
    plan = {"plan": "pro"}
    await walk.step(admin, "assign_ingestion_plan", plan, id=organization["id"])
    for kind, thing in (
        ("tenant", tenant),
        ("workspace", workspace),
        ("organization", organization),
    ):
        one = {"id": thing["id"]}
        await walk.step(admin, f"change_{kind}", {"name": "N"}, **one)
        await walk.step(admin, f"deactivate_{kind}", **one)
        await walk.step(admin, f"activate_{kind}", **one)
        await walk.step(admin, f"delete_{kind}", **one)
        await walk.step(admin, f"restore_{kind}", **one)
        await admin.delete(f"/{kind}s/{thing['id']}")
        await walk.step(admin, f"purge_{kind}", **one)
    await walk.step(admin, "delete_region", id=region["id"])


async def keys_and_rules(walk: Walk, admin: Client) -> None:
    made = await walk.step(admin, "create_api_key", {"name": "K"})
    one = {"id": made["key"]["id"]}
    await walk.step(admin, "change_api_key", {"name": "K2"}, **one)
    await walk.step(admin, "rotate_api_key", {"gracePeriodMinutes": 5}, **one)
    await walk.step(admin, "revoke_api_key", **one)
    other = await walk.step(admin, "create_api_key", {"name": "K3"})
    await walk.step(admin, "delete_api_key", id=other["key"]["id"])
    await walk.step(admin, "set_ingestion_limits", {"itemsPerSecond": 100})
    plan = {"description": "P", "limits": {"itemsPerSecond": 100}, "quotas": {"graceDays": 1}}
    await walk.step(admin, "change_ingestion_plan", plan, name="pro")
    body = {"name": "C", "origins": ["https://app.example.com"]}
    rules = await walk.step(admin, "create_cors_configuration", body)
    await walk.step(admin, "change_cors_configuration", {"name": "C2"}, id=rules["id"])
    await walk.step(admin, "deactivate_cors_configuration", id=rules["id"])
    await walk.step(admin, "activate_cors_configuration", id=rules["id"])
    await walk.step(admin, "delete_cors_configuration", id=rules["id"])


async def platform(walk: Walk, admin: Client) -> None:
    await walk.step(admin, "pause_queue", name="cleanup")
    await walk.step(admin, "resume_queue", name="cleanup")
    await walk.step(admin, "clean_queue", {"state": "failed"}, name="cleanup")
    await walk.step(admin, "clear_cache")
    await walk.step(admin, "clear_cache_below", pattern="platform:platform")
    async with walk.product.control.database.begin(PLATFORM) as connection:
        job = await connection.fetchval(
            "INSERT INTO pgqueuer (priority, entrypoint, payload, status) "
            "VALUES (1, 'cleanup', '', 'failed') RETURNING id"
        )
        await connection.execute(
            "INSERT INTO event_deliveries (event_id, subscriber, position, aggregate_id, state) "
            "SELECT event_id, name, position, aggregate_id, 'dead' FROM outbox, "
            "unnest(ARRAY['a', 'b']) AS name ORDER BY position LIMIT 2"
        )
        event_id = await connection.fetchval(
            "SELECT event_id FROM event_deliveries WHERE subscriber = 'a'"
        )
    await walk.step(admin, "retry_job", name="cleanup", job_number=job)
    async with walk.product.control.database.begin(PLATFORM) as connection:
        # No worker knows what to do with it.
        await connection.execute("DELETE FROM pgqueuer WHERE id = $1", job)
    await walk.step(admin, "retry_dead_event", event_id=event_id, subscriber="a")
    await walk.step(admin, "discard_dead_event", event_id=event_id, subscriber="b")


async def sign_in(walk: Walk, admin: Client) -> None:
    product, nobody = walk.product, walk.product.client
    address = "ada@example.com"
    login = {"email": address, "password": PASSWORD}
    await walk.step(nobody, "register", {**login, "firstName": "A", "lastName": "L"})
    await product.work()
    await walk.step(nobody, "verify_email", {"token": product.link_token(address)})
    tokens = await walk.step(nobody, "login", login)
    await walk.step(nobody.as_(tokens["accessToken"]), "logout")
    await walk.step(nobody, "forgot_password", {"email": address})
    await product.work()
    body = {"token": product.link_token(address), "password": f"{PASSWORD}-2"}
    await walk.step(nobody, "reset_password", body)
    ada = await product.as_person(address, f"{PASSWORD}-2")
    body = {"currentPassword": f"{PASSWORD}-2", "newPassword": f"{PASSWORD}-3"}
    await walk.step(ada, "change_password", body)
    for _ in range(3):
        await product.sign_in(address, "wrong")
    (me,) = (await ada.get("/users")).json["data"]
    await walk.step(ada, "unlock_user", id=me["id"])
    invited = {"email": "bob@example.com", **PERSON}
    await ada.post("/invitations", invited)
    await product.work()
    body = {"token": product.link_token(invited["email"]), "password": PASSWORD}
    await walk.step(nobody, "accept_invitation", body)


async def second_factor(walk: Walk) -> None:
    product, nobody = walk.product, walk.product.client
    carol = await product.registered("carol@example.com")
    login = {"email": "carol@example.com", "password": PASSWORD}
    _, codes = await with_second_factor(carol)
    walk.walked.add("verify_mfa")
    wanted = (await nobody.post("/auth/login", login)).json["tempToken"]
    body = {"tempToken": wanted, "code": codes[0], "isRecoveryCode": True, "trustDevice": True}
    await walk.step(nobody, "validate_second_factor", body)
    (device,) = (await carol.get("/auth/devices")).json["data"]
    await walk.step(carol, "distrust_device", id=device["id"])
    sessions = (await carol.get("/auth/sessions")).json["data"]
    other = next(one for one in sessions if not one["isCurrent"])
    await walk.step(carol, "end_session", id=other["id"])
    body = {"password": PASSWORD, "code": codes[1]}
    again = await walk.step(carol, "renew_recovery_codes", body)
    body = {"password": PASSWORD, "code": again["recoveryCodes"][0]}
    await walk.step(carol, "disable_mfa", body)


@pytest.mark.timeout(240)
async def test_G04_every_route_that_changes_something_leaves_an_entry(product: Running) -> None:
    walk = Walk(product)
    admin = await product.as_admin()
    for part in (people, roles, places, keys_and_rules, platform, sign_in):
        await part(walk, admin)
    await second_factor(walk)

    assert CHANGING.keys() - walk.walked == SILENT.keys()
