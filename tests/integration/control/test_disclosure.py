"""What answers of the API tell about its inside: nothing."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from control.app import ROUTES
from shared.http.application import build_application
from tests.control.client import Client
from tests.control.core_api import serving
from tests.control.product import Running

ALL = [route for module in ROUTES for route in module.found]
INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|asyncpg|aiohttp|SELECT |site-packages|canary-of-the-error"
)


@asynccontextmanager
async def broken(product: Running) -> AsyncIterator[Client]:
    """The same API, in which no transaction begins."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("canary-of-the-error SELECT secret FROM accounts")

    services = product.control.services
    database = services.database
    object.__setattr__(services, "database", Broken())
    try:
        async with serving(build_application(services, ROUTES)) as url, Client(url) as client:
            yield client.as_(product.client.token)
    finally:
        object.__setattr__(services, "database", database)


async def test_S66_an_error_that_nobody_expected_tells_nothing(product: Running) -> None:
    admin = await product.as_admin()
    statuses = set()
    async with broken(product) as client:
        client.token = admin.token
        for route in ALL:
            if route.path == "/auth/logout":
                continue
            path = re.sub(r"{\w+}", "00000000-0000-4000-8000-000000000000", route.path)
            path = path if route.is_prefixed else f"/{path}"
            answer = await client.ask(route.method, path, [] if route.body else None)
            statuses.add(answer.status)
            assert not INSIDE.search(answer.text), (route.name, answer.text)
            assert "Server" not in answer.headers, route.name
            assert "X-Powered-By" not in answer.headers
            if answer.status == 500:
                assert answer.json["requestId"] == answer.headers["X-Request-Id"]

    assert 500 in statuses


async def test_S67_metrics_and_debugging_are_not_on_the_public_port(product: Running) -> None:
    for path in ("//metrics", "//debug", "//debug/pprof", "//readyz", "//_debug", "/metrics"):
        assert (await product.client.get(path)).status == 404, path


async def test_S35_the_name_of_a_parameter_is_no_id(product: Running) -> None:
    admin = await product.as_admin()
    routes = [route for route in ALL if "{id}" in route.path]
    assert routes
    for route in routes:
        for literal in (":id", "{id}", "%7Bid%7D", "id", "*", "null", "undefined", "me%2F.."):
            path = re.sub(r"{\w+}", literal, route.path)
            answer = await admin.ask(route.method, path, {} if route.body else None)
            assert answer.status in (400, 404, 405), (route.name, literal, answer.text)


async def test_S48_wildcards_of_a_search_are_taken_literally(product: Running) -> None:
    admin = await product.as_admin()
    for name, slug in (("100% done", "a"), ("under_score", "b"), ("back\\slash", "c")):
        made = await admin.post("/workspaces", {"name": name, "slug": slug})
        assert made.status == 201, made.text

    async def found(text: str) -> list[str]:
        answer = await admin.ask("GET", f"/workspaces?search={text}")
        return [one["name"] for one in answer.json["data"]]

    assert await found("100%25") == ["100% done"]
    assert await found("%25") == ["100% done"]
    assert await found("_") == ["under_score"]
    assert await found("%5C") == ["back\\slash"]
    assert await found("'%20OR%201=1--") == []


async def test_S48_a_stored_name_is_never_part_of_a_statement(product: Running) -> None:
    admin = await product.as_admin()
    name = "x'; DROP TABLE users; --"
    role = await admin.post("/roles", {"name": name, "permissions": ["user:read"]})
    person = {"email": "ada@example.com", "firstName": name, "lastName": name}

    invited = await admin.post("/invitations", person | {"roleIds": [role.json["id"]]})
    await product.work()
    users = await admin.get("/users?search=DROP")

    assert invited.status == 201
    assert [one["firstName"] for one in users.json["data"]] == [name]
