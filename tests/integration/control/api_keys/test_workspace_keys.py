"""Keys of a whole workspace: who makes them, who sees them, and what a gateway does with them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from control.api_keys.directory import DirectoryFeed
from control.api_keys.jobs import look_after_keys
from control.api_keys.repository.keys import KEYS_OF_A_WORKSPACE_MAX
from ingest.directory import Directory, Principal
from ingest.signals import Signal
from shared.directory.directory_pb2 import FollowRequest
from shared.errors import Forbidden, Unauthenticated
from shared.messaging.events import utc_now
from shared.postgres.scope import PLATFORM
from shared.security.credentials import Credentials
from shared.security.peppers import Peppers
from tests.control.client import Client
from tests.control.product import PASSWORD, Running

NEW = {"name": "Collectors", "scope": "workspace"}


@dataclass
class Shop:
    """An organization: a workspace with two tenants, and another one with a third."""

    ada: Client
    workspace: str
    production: str
    staging: str
    elsewhere: str


@pytest.fixture
async def shop(product: Running) -> Shop:
    ada = await product.registered("ada@example.com")
    (production,) = (await ada.get("/tenants")).json["data"]
    workspace = production["workspaceId"]
    other = await ada.post("/workspaces", {"name": "Bank", "slug": "bank"})
    made = [
        await ada.post("/tenants", {"workspaceId": one, "name": slug, "slug": slug})
        for one, slug in ((workspace, "staging"), (other.json["id"], "vault"))
    ]
    assert [one.status for one in made] == [201, 201]
    return Shop(ada, workspace, production["id"], *(one.json["id"] for one in made))


async def person_of(product: Running, shop: Shop, email: str, *roles: dict[str, Any]) -> Client:
    """Somebody with these roles, signed in."""
    person = {"email": email, "firstName": "B", "lastName": "B"}
    invited = await shop.ada.post("/invitations", person)
    assert invited.status == 201, invited.text
    await product.work()
    token = product.link_token(email)
    await product.client.post("/auth/accept-invitation", {"token": token, "password": PASSWORD})
    await product.work()
    (found,) = (await shop.ada.get(f"/users?search={email}")).json["data"]
    for role in roles:
        given = await shop.ada.post(f"/users/{found['id']}/roles", role)
        assert given.status == 201, given.text
    return await product.as_person(email)


async def gate_of(product: Running) -> Directory:
    """What a gateway knows now."""
    control = product.control
    feed = DirectoryFeed(control.database, control.settings.retention_days)
    await feed.refresh()
    directory = Directory(peppers=Peppers.of(control.settings))
    async for piece in feed.follow(FollowRequest()):
        directory.state.apply(piece)
        if piece.ends_batch:
            break
    return directory


def sender(directory: Directory, made: Any, tenant: str | None = None) -> Principal:
    """Who a request with that key is of."""
    credentials = Credentials(made["key"]["keyId"], made["secret"], tenant_id=tenant)
    return directory.authenticate(credentials, Signal.TRACES)


async def test_a_key_of_a_workspace_writes_for_its_tenants_until_it_is_revoked(
    product: Running, shop: Shop
) -> None:
    answer = await shop.ada.post("/api-keys", NEW)
    made, key = answer.json, answer.json["key"]
    directory = await gate_of(product)

    assert (answer.status, key["scope"]) == (201, "workspace")
    assert (key["tenantId"], key["workspaceId"]) == (None, shop.workspace)
    whole = sender(directory, made)
    assert (whole.tenant_id, whole.workspace_id) == ("", shop.workspace)
    for tenant in (shop.production, shop.staging):
        assert sender(directory, made, tenant).tenant_id == tenant
        assert directory.tenant_within(whole, tenant, Signal.LOGS).tenant_id == tenant
    assert directory.tenant_within(whole, shop.elsewhere, Signal.LOGS) == whole
    with pytest.raises(Forbidden, match="another tenant"):
        sender(directory, made, shop.elsewhere)
    path = f"/api-keys/{key['id']}"
    changed = await shop.ada.patch(path, {"name": "Agents"})
    rotated = await shop.ada.post(f"{path}/rotate", {"gracePeriodMinutes": 5})
    revoked = await shop.ada.post(f"/api-keys/{rotated.json['key']['id']}/revoke")
    assert (changed.json["name"], revoked.json["status"]) == ("Agents", "revoked")
    assert rotated.json["key"]["workspaceId"] == shop.workspace
    later = await gate_of(product)
    assert sender(later, made, shop.staging).tenant_id == shop.staging
    with pytest.raises(Unauthenticated, match="revoked"):
        sender(later, rotated.json)
    assert await look_after_keys(product.control.api_keys, now=utc_now() + timedelta(hours=1)) == 1
    assert (await shop.ada.get(path)).json["status"] == "expired"


async def test_keys_of_a_workspace_stand_beside_those_of_each_of_its_tenants(
    product: Running, shop: Shop
) -> None:
    wide = (await shop.ada.post("/api-keys", NEW)).json["key"]["id"]
    own = (await shop.ada.post("/api-keys", {"name": "Own"})).json["key"]["id"]

    async def seen(tenant: str, query: str = "") -> set[str]:
        listed = await shop.ada.get(f"/api-keys{query}", **{"X-Tenant-Id": tenant})
        return {one["id"] for one in listed.json["data"]}

    assert await seen(shop.production) == {wide, own}
    assert await seen(shop.production, "?scope=workspace") == {wide}
    assert await seen(shop.production, "?scope=tenant") == {own}
    assert await seen(shop.staging) == {wide}
    assert await seen(shop.elsewhere) == set()


async def test_S31_keys_of_another_workspace_do_not_exist(product: Running, shop: Shop) -> None:
    eve = await product.registered("eve@example.com")
    key = (await shop.ada.post("/api-keys", NEW)).json["key"]
    path = f"/api-keys/{key['id']}"
    there = {"X-Tenant-Id": shop.elsewhere}

    answers = [
        await eve.get(path),
        await eve.patch(path, {"name": "Mine"}),
        await eve.post(f"{path}/rotate", {}),
        await eve.delete(path),
        await shop.ada.get(path, **there),
        await shop.ada.patch(path, {"name": "Mine"}, **there),
        await shop.ada.post(f"{path}/rotate", {}, **there),
    ]

    assert [answer.status for answer in answers] == [404] * 7
    assert (await shop.ada.get(path)).json["version"] == 1


async def test_S36_neither_the_workspace_nor_the_scope_of_a_key_is_what_somebody_writes(
    shop: Shop,
) -> None:
    key = (await shop.ada.post("/api-keys", {"name": "Own"})).json["key"]
    path = f"/api-keys/{key['id']}"

    answers = [
        await shop.ada.post("/api-keys", NEW | {"workspaceId": shop.elsewhere}),
        await shop.ada.post("/api-keys", NEW | {"tenantId": shop.elsewhere}),
        await shop.ada.post("/api-keys", NEW | {"scope": "organization"}),
        await shop.ada.patch(path, {"scope": "workspace"}),
        await shop.ada.post(f"{path}/rotate", {"scope": "workspace"}),
    ]

    assert [answer.status for answer in answers] == [400] * 5
    assert (await shop.ada.get(path)).json["scope"] == "tenant"


async def test_S37_a_role_in_one_tenant_makes_and_changes_no_key_of_its_workspace(
    product: Running, shop: Shop
) -> None:
    names = ["api-keys:read", "api-keys:write", "traces:write", "metrics:write", "logs:write"]
    role = (await shop.ada.post("/roles", {"name": "Keys", "permissions": names})).json["id"]
    local = await person_of(
        product, shop, "bob@example.com", {"roleId": role, "tenantId": shop.production}
    )
    wide = await person_of(product, shop, "cleo@example.com", {"roleId": role})
    key = (await shop.ada.post("/api-keys", NEW)).json["key"]
    full = (await shop.ada.post("/api-keys", NEW | {"preset": "fullAccess"})).json["key"]
    path = f"/api-keys/{key['id']}"

    own = await local.post("/api-keys", {"name": "Own"})
    refused = [
        await local.post("/api-keys", NEW),
        await local.patch(path, {"allowedNetworks": []}),
        await local.post(f"{path}/rotate", {}),
        await local.post(f"{path}/revoke"),
        await local.delete(path),
        # Here it is the key that allows more than she may.
        await wide.post("/api-keys", NEW | {"preset": "fullAccess"}),
        await wide.post(f"/api-keys/{full['id']}/rotate", {}),
    ]
    allowed = [
        await wide.post("/api-keys", NEW),
        await wide.patch(path, {"name": "Agents"}),
        await wide.post(f"{path}/rotate", {}),
    ]

    assert own.status == 201, own.text
    assert [answer.status for answer in refused] == [403] * 7
    assert "in the whole organization" in refused[0].json["detail"]
    assert (await local.get(path)).json["scope"] == "workspace"
    assert [answer.status for answer in allowed] == [201, 200, 201]


async def test_S37_a_role_that_is_wide_and_one_that_is_local_do_not_add_up(
    product: Running, shop: Shop
) -> None:
    wide, local = [
        (await shop.ada.post("/roles", {"name": name, "permissions": permissions})).json["id"]
        for name, permissions in (
            ("Keys", ["api-keys:read", "api-keys:write"]),
            ("Writes", ["traces:write"]),
        )
    ]
    bob = await person_of(
        product,
        shop,
        "bob@example.com",
        {"roleId": wide},
        {"roleId": local, "tenantId": shop.production},
    )
    here = {"X-Tenant-Id": shop.production}

    own = await bob.post("/api-keys", {"name": "Own", "permissions": ["traces:write"]}, **here)
    all_of_it = await bob.post("/api-keys", NEW | {"permissions": ["traces:write"]}, **here)

    assert (own.status, all_of_it.status) == (201, 403)


async def test_a_workspace_has_a_limited_number_of_keys_that_work(
    product: Running, shop: Shop
) -> None:
    key = (await shop.ada.post("/api-keys", NEW)).json["key"]
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute(
            """
            INSERT INTO api_keys (id, version, organization_id, workspace_id, key_id, secret_hash,
                                  pepper_id, name, permissions, status, expires_at)
            SELECT gen_random_uuid(), 1, organization_id, workspace_id,
                   'tfk_' || lpad(to_hex(number), 32, '0'),
                   secret_hash, pepper_id, 'N', permissions, 'active', expires_at
              FROM api_keys, generate_series(2, $1::int) AS number
            """,
            KEYS_OF_A_WORKSPACE_MAX,
        )

    one_more = await shop.ada.post("/api-keys", NEW)
    of_the_tenant = await shop.ada.post("/api-keys", {"name": "Own"})
    await shop.ada.delete(f"/api-keys/{key['id']}")
    after = await shop.ada.post("/api-keys", NEW)

    assert (one_more.status, of_the_tenant.status, after.status) == (409, 201, 201)
    assert "a workspace has at most" in one_more.json["detail"]


async def test_who_made_a_key_of_a_workspace_is_told_before_it_expires(
    product: Running, shop: Shop
) -> None:
    await shop.ada.post("/api-keys", NEW | {"expiresInDays": 30})
    await product.work()

    await look_after_keys(product.control.api_keys, now=utc_now() + timedelta(days=24))
    await product.work()

    told = [mail["Subject"] for mail in product.mails("ada@example.com")]
    assert "The API key Collectors expires soon" in told


async def test_keys_of_a_workspace_that_is_purged_are_gone_from_the_directory(
    product: Running, shop: Shop
) -> None:
    made = (await shop.ada.post("/api-keys", NEW)).json
    directory = await gate_of(product)
    assert sender(directory, made, shop.production)
    since = directory.state.revision
    async with product.control.database.begin(PLATFORM) as connection:
        await connection.execute("DELETE FROM workspaces WHERE id = $1", UUID(shop.workspace))
    feed = DirectoryFeed(product.control.database, product.control.settings.retention_days)
    await feed.refresh()
    known = FollowRequest(epoch=directory.state.epoch, revision=since)

    async for piece in feed.follow(known):
        directory.state.apply(piece)
        if piece.ends_batch:
            assert piece.checksum == directory.state.checksum
            break

    with pytest.raises(Unauthenticated):
        sender(directory, made)
