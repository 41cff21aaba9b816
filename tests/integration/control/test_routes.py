"""A walk over all routes: what each declares, what it answers to whom, and whose ids it takes."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from control.app import ROUTES
from control.core.domain.permissions import PERMISSIONS, TIERS
from control.core.domain.roles import Role
from control.core.repository.core import CoreRepositories
from shared.http.application import build_application, full_path
from shared.http.routes import Route
from shared.messaging.commands import ANYBODY, SIGNED_IN
from shared.postgres.database import Database, UnitOfWork
from shared.postgres.scope import PLATFORM
from tests.control.client import Client
from tests.control.people import Seeded, seed
from tests.control.product import Running

ALL = [route for module in ROUTES for route in module.found]
GUARDED = [route for route in ALL if route.permission not in (ANYBODY, SIGNED_IN)]


def path_of(route: Route, ids: dict[str, str] | None = None) -> str:
    """The path with *ids*, or ids that nobody has, in place of its parameters."""
    path = re.sub(r"{(\w+)}", lambda match: (ids or {}).get(match[1], str(uuid4())), route.path)
    return path if route.is_prefixed else f"/{path}"


@dataclass
class Two:
    """Two organizations that are alike, and a client for each tier of the first."""

    ours: Seeded
    theirs: Seeded
    client: Client
    people: dict[int, Client]
    database: Database


@pytest.fixture
def product(telemetry_product: Running) -> Running:
    """With ClickHouse, so that all routes can answer."""
    return telemetry_product


@pytest.fixture
async def two(product: Running) -> Two:
    database = product.control.database
    ours, theirs = await seed(database), await seed(database)
    tokens = await product.tokens_of(ours)
    people = {level: product.client.as_(token) for level, token in tokens.items()}
    return Two(ours, theirs, product.client, people, database)


@pytest.mark.parametrize("route", ALL, ids=lambda route: route.name)
def test_S30_every_route_declares_a_permission_a_model_and_what_it_says(route: Route) -> None:
    assert route.permission in {*PERMISSIONS, ANYBODY, SIGNED_IN}
    assert route.handler.__doc__
    assert (
        route.answer is not None or route.status == 204 or route.content_type != "application/json"
    )
    if route.method in ("PUT", "PATCH"):
        assert route.body is not None


async def test_S30_every_path_of_the_application_is_declared(product: Running) -> None:
    application = build_application(product.control.services, ROUTES)
    declared = {(route.method, full_path(route, "api/v2")) for route in ALL}
    open_to_all = {"/openapi.json", "/docs", r"/docs/{name}"}

    served = {
        (route.method, resource.canonical)
        for route in application.router.routes()
        if (resource := route.resource) is not None and route.method != "HEAD"
    }

    assert {one for one in served if one[1] not in open_to_all} == declared


async def test_S30_without_a_token_every_guarded_route_answers_401(two: Two) -> None:
    for route in ALL:
        if route.permission == ANYBODY:
            continue
        answer = await two.client.ask(route.method, path_of(route))
        assert answer.status == 401, route.name
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
async def test_S30_the_matrix_of_roles_holds_on_every_route(two: Two, tier: Any) -> None:
    """Who lacks the permission is refused before anything else; who has it gets past that."""
    person = two.people[tier.level]
    for route in GUARDED:
        # An empty body is wrong for every route that wants one, and no id exists: nothing changes.
        answer = await person.ask(route.method, path_of(route), [] if route.body else None)
        if tier.level == 1 or route.permission in tier.permissions:
            assert answer.status in (200, 400, 404), (route.name, answer.text)
        else:
            assert answer.status == 403, (route.name, answer.text)
            assert route.permission in answer.json["detail"]


async def test_S31_no_route_takes_an_id_of_another_organization(
    two: Two,
) -> None:
    theirs, administrator = two.theirs, two.people[2]
    ids_of_kind = {
        "organizations": theirs.organization,
        "workspaces": theirs.workspace,
        "tenants": theirs.tenant,
        "users": theirs.people[4],
    }
    tried = 0
    for route in GUARDED:
        kind = route.path.split("/")[1]
        if "{id}" not in route.path or kind not in ids_of_kind:
            continue
        body = _plausible(route)
        foreign = await administrator.ask(
            route.method, path_of(route, {"id": str(ids_of_kind[kind])}), body
        )
        unknown = await administrator.ask(route.method, path_of(route), body)
        assert foreign.status == unknown.status, (route.name, foreign.text)
        assert foreign.status in (403, 404), (route.name, foreign.text)
        assert foreign.json["detail"] == unknown.json["detail"], route.name
        tried += 1
    assert tried > 20


def _plausible(route: Route) -> Any:
    """A body that the route would take."""
    required = {
        "assign_role": {"roleId": str(TIERS[3].id)},
        "grant_permission": {"permissionId": str(PERMISSIONS["user:read"].id)},
    }
    return required.get(route.name, {} if route.body else None)


async def test_S31_ids_of_another_organization_in_bodies_are_unknown(
    two: Two,
) -> None:
    theirs, administrator = two.theirs, two.people[2]
    role = str(await _role_of(theirs, two.database))
    person = f"/users/{two.ours.people[4]}"
    person_to_be = {"email": "new@example.com", "firstName": "N", "lastName": "N"}
    bodies: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/workspaces", {"name": "W", "slug": "w", "organizationId": theirs.organization}),
        ("POST", "/tenants", {"name": "T", "slug": "t", "workspaceId": theirs.workspace}),
        ("POST", "/users", person_to_be | {"organizationId": theirs.organization}),
        ("POST", "/users", person_to_be | {"tenantId": theirs.tenant}),
        ("POST", "/users", person_to_be | {"roleIds": [role]}),
        ("POST", "/roles", {"name": "R", "permissions": [], "organizationId": theirs.organization}),
        ("POST", "/groups", {"name": "G", "organizationId": theirs.organization}),
        ("POST", "/groups", {"name": "G", "userIds": [theirs.people[4]]}),
        ("POST", "/groups", {"name": "G", "roleIds": [role]}),
        ("POST", f"{person}/roles", {"roleId": role}),
        ("POST", f"{person}/roles", {"roleId": TIERS[3].id, "tenantId": theirs.tenant}),
        ("PATCH", person, {"tenantId": theirs.tenant}),
    ]
    for method, path, body in bodies:
        text = {name: _text(value) for name, value in body.items()}
        answer = await administrator.ask(method, path, text)
        assert answer.status == 404, (path, body, answer.text)


async def _role_of(seeded: Seeded, database: Database) -> UUID:
    role = Role.create(
        organization_id=seeded.organization,
        name="Theirs",
        description="",
        level=4,
        permissions=["user:read"],
    )
    async with UnitOfWork(database, CoreRepositories).begin(PLATFORM) as core:
        await core.roles.save(role)
    return role.id


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [str(one) for one in value]
    return value if isinstance(value, str) else str(value)


async def test_S33_a_tenant_that_is_not_theirs_is_refused_and_recorded(two: Two) -> None:
    theirs, administrator = two.theirs, two.people[2]

    refused = await administrator.get("/tenants", **{"X-Tenant-Id": str(theirs.tenant)})
    own = await administrator.get("/tenants", **{"X-Tenant-Id": str(two.ours.tenant)})

    assert (refused.status, own.status) == (403, 200)
    async with two.database.pool.acquire() as connection:
        events = await connection.fetch(
            "SELECT payload FROM outbox WHERE event_type = 'SecurityEventDetected'"
        )
    assert [event["payload"]["kind"] for event in events] == ["tenant_mismatch"]


async def test_S34_other_spellings_of_a_path_are_not_the_path(two: Two) -> None:
    viewer = two.people[4]
    for path in (
        "//api/v2//roles",
        "//api/v2/./roles",
        "//API/v2/roles",
        "//api/v2/roles/",
        "//api/v2/roles;x=1",
        "//api/v2/%72oles/..;/roles",
    ):
        answer = await viewer.ask("POST", path, {"name": "X", "permissions": []})
        assert answer.status in (403, 404), path
    overridden = await viewer.get("/roles", **{"X-HTTP-Method-Override": "POST"})
    assert overridden.status == 200


async def test_S36_fields_that_are_not_for_clients_are_refused(two: Two) -> None:
    administrator = two.people[2]
    for route in ALL:
        if route.body is None:
            continue
        for field in ("id", "version", "isSystem", "organization_id", "accessVersion", "deletedAt"):
            answer = await administrator.ask(route.method, path_of(route), {field: 1})
            assert answer.status in (400, 403), (route.name, field, answer.text)


async def test_S25_every_answer_carries_the_safe_headers_and_a_request_id(two: Two) -> None:
    for path in ("/users", "/nothing", "//docs", "//openapi.json", "//health"):
        answer = await two.client.get(path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        assert answer.headers["X-Request-Id"]
