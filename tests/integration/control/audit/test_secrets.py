"""S65: secrets in every input of every route stand nowhere in the trail, in no log and no error."""

import logging
import re
import secrets
from typing import Any
from uuid import uuid4

import pytest

from control.app import ROUTES
from shared.http.routes import Route
from shared.postgres.scope import PLATFORM
from tests.control.client import Client
from tests.control.product import Running

EVERY_ROUTE = [route for module in ROUTES for route in module.found]
# They end something that the walk still needs.
LAST = {"logout", "logout_everywhere", "revoke_session", "revoke_sessions"}
_SECRET_NAME = re.compile(r"(?i)password|secret|token|code")


class Canaries:
    """Secrets that nobody ever sent before, in the shapes that secrets have."""

    def __init__(self) -> None:
        self.made: set[str] = set()

    def bare(self) -> str:
        """One that only the name of its field tells."""
        canary = f"Canary-{secrets.token_hex(12)}"
        self.made.add(canary)
        return canary

    def in_text(self, number: int) -> str:
        """One as people paste it where it does not belong."""
        canary = secrets.token_hex(20)
        self.made.add(canary)
        shapes = (
            f"tfs_{canary}",
            f"eyJhbGciOiJub25lIn0.{canary}.c2ln",
            f"Bearer {canary}",
            f"password={canary}",
            f"x-api-key: {canary}",
        )
        return shapes[number % len(shapes)]

    def body_of(self, schema: Any, definitions: Any, number: int) -> Any:
        """A body with one in each text of *schema*, and in a field that nobody knows."""
        properties = schema.get("properties", {})
        body = {
            name: self.bare()
            if _SECRET_NAME.search(name)
            else self._value(one, definitions, number)
            for name, one in properties.items()
        }
        return {**body, "unknownPassword": self.bare()}

    def _value(self, schema: Any, definitions: Any, number: int) -> Any:
        if "$ref" in schema:
            one = definitions[schema["$ref"].rpartition("/")[2]]
            return self.body_of(one, definitions, number) if "properties" in one else "x"
        if schema.get("anyOf"):
            return self._value(schema["anyOf"][0], definitions, number)
        if schema.get("type") == "array":
            return [self._value(schema.get("items", {}), definitions, number)]
        return {"integer": 1, "number": 1, "boolean": True}.get(
            schema.get("type", ""), self.in_text(number)
        )


async def call(client: Client, route: Route, canaries: Canaries, number: int) -> str:
    path = re.sub(r"{\w+}", lambda _: str(uuid4()), route.path)
    if number % 2:
        path = re.sub(r"{\w+}", lambda _: f"tfs_{canaries.bare()}", route.path)
    prefix = "" if route.is_prefixed else "/"
    body = None
    if route.body is not None:
        schema = route.body.model_json_schema()
        body = canaries.body_of(schema, schema.get("$defs", {}), number)
    answer = await client.ask(
        route.method,
        f"{prefix}{path}?token={canaries.bare()}&search=tfs_{canaries.bare()}",
        body,
        headers={
            "User-Agent": f"curl/8 ({canaries.in_text(number)})",
            "Referer": f"https://app.example.com/#token=tfe_{canaries.bare()}",
            "X-Request-Id": f"tfs_{canaries.bare()}",
            "X-Api-Key-Secret": canaries.bare(),
            "Cookie": f"session={canaries.bare()}",
        },
    )
    return answer.text if answer.status >= 400 else ""


async def valid(admin: Client, product: Running, canaries: Canaries) -> None:
    """Secrets where any text is allowed, in calls that succeed and leave entries."""
    for number in range(5):
        text = canaries.in_text(number)
        headers = {
            "User-Agent": f"curl/8 {canaries.in_text(number)}",
            "X-Request-Id": f"tfs_{canaries.bare()}",
        }
        name = f"n{number} {text}"[:100]
        for path, body in (
            ("/api-keys", {"name": name, "description": text}),
            ("/roles", {"name": name[:50], "description": text, "permissions": []}),
            ("/groups", {"name": name[:50], "description": text}),
            ("/regions", {"name": name[:50], "code": f"r{number}"}),
            ("/users", {"email": f"p{number}@example.com", "firstName": text, "lastName": text}),
        ):
            answer = await admin.ask("POST", path, body, headers=headers)
            if answer.status != 201:
                # A name that is too short for the canary, say; the error is looked at elsewhere.
                assert answer.status == 400, answer.text
        await product.client.ask(
            "POST",
            "/auth/login",
            {"email": f"nobody{number}@example.com", "password": canaries.bare()},
            headers=headers,
        )
        await product.client.as_(f"tfs_{canaries.bare()}").ask("GET", "/users", headers=headers)


async def test_S65_a_secret_in_any_input_of_any_route_is_nowhere_in_the_trail(
    product: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    admin, canaries = await product.as_admin(), Canaries()
    await valid(admin, product, canaries)
    errors = [
        await call(admin, route, canaries, number)
        for number, route in enumerate(EVERY_ROUTE)
        if route.name not in LAST
    ]
    await product.work()

    trail = [
        (await admin.get(path)).text
        for path in (
            *(f"/audit-logs?limit=100&page={page}" for page in range(1, 6)),
            "/audit-logs/export?format=csv",
            "/audit-logs/export?format=json",
            "/me/audit-logs?limit=100",
        )
    ]
    async with product.control.database.read(PLATFORM) as connection:
        rows = await connection.fetch("SELECT audit_logs::text FROM audit_logs")
    places = {
        "the trail": "\n".join(trail),
        "its rows": "\n".join(row[0] for row in rows),
        "the log": "\n".join(
            one.getMessage() for one in caplog.records if one.name != "aiohttp.access"
        ),
        "an error": "\n".join(errors),
    }

    assert len(rows) > 40
    assert len(canaries.made) > 500
    assert "api_key.created" in places["the trail"]
    assert "curl/8" in places["the trail"]
    found = {
        (place, re.sub(re.escape(canary), "CANARY", text[max(0, at - 60) : at + len(canary) + 20]))
        for place, text in places.items()
        for canary in canaries.made
        if (at := text.find(canary)) >= 0
    }
    assert found == set()
