"""Core over real HTTP on a real PostgreSQL."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from shared.postgres.database import Database
from tests.control.client import Client
from tests.control.core_api import core_application, serving
from tests.control.people import Seeded, seed


@pytest.fixture
async def ours(database: Database) -> Seeded:
    return await seed(database)


@pytest.fixture
async def client(database: Database, ours: Seeded) -> AsyncIterator[Client]:
    """As the administrator of `ours`."""
    async with (
        serving(core_application(database)) as url,
        Client(url, str(ours.people[2])) as client,
    ):
        yield client


async def test_a_workspace_is_created_read_changed_deleted_and_restored(client: Client) -> None:
    created = await client.post("/workspaces", {"name": "Web", "slug": "web"})
    path = f"/workspaces/{created.json['id']}"
    changed = await client.patch(
        path, {"name": "Web shop"}, **{"If-Match": created.headers["ETag"]}
    )
    gone = await client.delete(path)
    missing = await client.get(path)
    restored = await client.post(f"{path}/restore")

    assert (created.status, created.headers["ETag"]) == (201, '"1"')
    assert (changed.status, changed.json["name"], changed.headers["ETag"]) == (
        200,
        "Web shop",
        '"2"',
    )
    assert (gone.status, missing.status) == (204, 404)
    assert (restored.status, restored.json["name"]) == (200, "Web shop")


async def test_an_edit_of_an_older_version_is_refused(client: Client, ours: Seeded) -> None:
    path = f"/workspaces/{ours.workspace}"
    await client.patch(path, {"name": "First"})

    late = await client.patch(path, {"name": "Second"}, **{"If-Match": '"1"'})

    assert late.status == 412
    assert (await client.get(path)).json["name"] == "First"


async def test_S31_another_organizations_things_do_not_exist(
    client: Client, database: Database
) -> None:
    theirs = await seed(database)
    for path in (
        f"/organizations/{theirs.organization}",
        f"/workspaces/{theirs.workspace}",
        f"/tenants/{theirs.tenant}",
        f"/users/{theirs.people[3]}",
    ):
        foreign, unknown = await client.get(path), await client.get(f"{path[:-36]}{uuid4()}")
        assert (foreign.status, unknown.status) == (404, 404), path
        assert foreign.json["detail"] == unknown.json["detail"]
    organizations = (await client.get("/organizations")).json["data"]
    assert [one["id"] for one in organizations] != []
    assert str(theirs.organization) not in [one["id"] for one in organizations]


async def test_an_invited_person_gets_an_invitation_and_the_roles(client: Client) -> None:
    roles = {one["name"]: one["id"] for one in (await client.get("/roles")).json["data"]}

    created = await client.post(
        "/users",
        {
            "email": "Ada@Example.com",
            "firstName": "Ada",
            "lastName": "Lovelace",
            "roleIds": [roles["Developer"]],
        },
    )

    assert created.status == 201, created.text
    assert created.json["email"] == "ada@example.com"
    assert created.json["isInvited"]
    assert [role["name"] for role in created.json["roles"]] == ["Developer"]
    invitations = (await client.get("/invitations")).json["data"]
    assert [(one["email"], one["status"]) for one in invitations] == [
        ("ada@example.com", "pending")
    ]


async def test_nobody_gives_what_they_do_not_have(client: Client, ours: Seeded) -> None:
    developer = client.as_(str(ours.people[3]))
    roles = {one["name"]: one["id"] for one in (await client.get("/roles")).json["data"]}

    up = await developer.post(f"/users/{ours.people[4]}/roles", {"roleId": roles["Administrator"]})
    stronger = await developer.patch(f"/users/{ours.people[2]}", {"email": "mine@example.com"})
    super_role = await client.post(
        f"/users/{ours.people[4]}/roles", {"roleId": roles["Super Administrator"]}
    )

    assert (up.status, stronger.status, super_role.status) == (403, 403, 403)


async def test_the_last_administrator_stays(client: Client, ours: Seeded) -> None:
    platform = client.as_(str(ours.people[1]))
    await platform.delete(f"/users/{ours.people[2]}")

    refused = await platform.post(f"/users/{ours.people[1]}/deactivate")

    assert refused.status == 409
    assert "last administrator" in refused.json["detail"]


async def test_a_change_of_roles_is_in_force_at_the_next_request(
    client: Client, ours: Seeded
) -> None:
    viewer = client.as_(str(ours.people[4]))
    assert (await viewer.post("/workspaces", {"name": "No", "slug": "no"})).status == 403
    roles = {one["name"]: one["id"] for one in (await client.get("/roles")).json["data"]}

    given = await client.post(f"/users/{ours.people[4]}/roles", {"roleId": roles["Developer"]})
    allowed = await viewer.post("/workspaces", {"name": "Yes", "slug": "yes"})
    await client.delete(f"/users/{ours.people[4]}/roles/{roles['Developer']}")
    refused = await viewer.post("/workspaces", {"name": "No", "slug": "no"})

    assert (given.status, allowed.status, refused.status) == (201, 201, 403)


async def test_a_post_with_an_idempotency_key_is_carried_out_once(client: Client) -> None:
    body = {"name": "Once", "slug": "once"}
    key = {"Idempotency-Key": "a-key"}

    first = await client.post("/workspaces", body, **key)
    again = await client.post("/workspaces", body, **key)
    other = await client.post("/workspaces", {"name": "Other", "slug": "other"}, **key)

    assert first.status == again.status == 201
    assert first.json == again.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.status == 422


async def test_wrong_fields_are_named(client: Client) -> None:
    answer = await client.post("/workspaces", {"name": "", "slug": "No Slug", "admin": True})

    assert answer.status == 400
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert {one["field"] for one in answer.json["errors"]} == {"name", "slug", "admin"}


async def test_the_description_and_its_page_are_served(client: Client) -> None:
    document = (await client.get("//openapi.json")).json
    page = await client.get("//docs")
    script = await client.get("//docs/swagger-ui-bundle.js")

    assert document["openapi"] == "3.1.0"
    assert "/api/v2/users/{id}" in document["paths"]
    assert page.status == script.status == 200


async def test_S37_a_role_in_one_tenant_gives_no_power_over_the_organization(
    client: Client, ours: Seeded
) -> None:
    roles = {one["name"]: one["id"] for one in (await client.get("/roles")).json["data"]}
    person = await client.post(
        "/users", {"email": "t@example.com", "firstName": "T", "lastName": "T"}
    )
    path = f"/users/{person.json['id']}"
    given = await client.post(
        f"{path}/roles", {"roleId": roles["Administrator"], "tenantId": str(ours.tenant)}
    )
    local = client.as_(person.json["id"])

    upwards = await local.post(f"{path}/roles", {"roleId": roles["Administrator"]})
    renamed = await local.patch(f"/organizations/{ours.organization}", {"name": "Mine"})
    invited = await local.post(
        "/users", {"email": "u@example.com", "firstName": "U", "lastName": "U"}
    )
    seen = await local.get("/users")
    why = {one["name"] for one in (await client.get(f"{path}/permissions")).json["data"]}

    assert given.status == 201, given.text
    assert (upwards.status, renamed.status, invited.status) == (403, 403, 403)
    assert seen.status == 200
    assert "dashboards:write" in why
    assert "user:read" in why
    assert "user:write" not in why


async def test_S16_bad_tokens_are_counted_by_address(database: Database) -> None:
    async with serving(core_application(database, limit=5)) as url, Client(url, "x") as client:
        answers = [await client.get("/users") for _ in range(7)]

    assert [answer.status for answer in answers] == [401] * 5 + [429] * 2
    assert int(answers[-1].headers["Retry-After"]) >= 1
