"""How often a request waits for PostgreSQL: each exchange is seen on the wire, and held here."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.postgres.address import PostgresAddress
from tests.control.client import Client, Reply
from tests.control.people import Seeded, seed
from tests.control.product import running, settings_for
from tests.control.telemetry import DATABASE
from tests.integration.shared.embedded_server import EmbeddedServer
from tests.postgres.exchanges import Exchanges

# Until permissions are remembered, and the statements are prepared on the connection.
ASKED_BEFORE = 3
SESSION = "session_of($1)"
KEY = "reader_of($1, $2)"
BEGIN, BEGIN_READING, COMMIT = "BEGIN; SET LOCAL", "BEGIN READ ONLY; SET LOCAL", "COMMIT; SELECT"
READ = (BEGIN_READING, "FROM workspaces", COMMIT)
CREATE = (BEGIN, "FROM organizations", "INTO workspaces", "INTO outbox", "pg_notify", COMMIT)


@dataclass
class Wire:
    """The product, and its wire to PostgreSQL."""

    exchanges: Exchanges
    seeded: Seeded
    # Someone who administers the organization.
    client: Client

    async def seen_of(self, *sent: Any, **options: Any) -> list[str]:
        """The exchanges of a request that is sent again and again; `{}` is another number then."""
        for number in range(ASKED_BEFORE):
            self.exchanges.seen.clear()
            answer = await self._ask(number, *sent, **options)
            assert answer.status in (200, 201), answer.text
        return list(self.exchanges.seen)

    async def _ask(
        self,
        number: int,
        method: str,
        path: str,
        body: Any = None,
        *,
        client: Client | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        numbered = {name: text.format(number) for name, text in (headers or {}).items()}
        filled = body and {name: text.format(number) for name, text in body.items()}
        return await (client or self.client).ask(method, path, filled, headers=numbered)


@pytest.fixture
async def wire(
    database_address: PostgresAddress,
    tmp_path: Path,
    telemetry_engine: EmbeddedServer,
    telemetry_store: object,
) -> AsyncIterator[Wire]:
    async with Exchanges(database_address) as exchanges:
        settings = settings_for(
            exchanges.address,
            tmp_path,
            clickhouse_host="127.0.0.1",
            clickhouse_port=telemetry_engine.port,
            clickhouse_database=DATABASE,
        )
        async with running(settings, tmp_path) as product:
            seeded = await seed(product.control.database)
            tokens = await product.tokens_of(seeded)
            yield Wire(exchanges, seeded, product.client.as_(tokens[2]))


def assert_are(seen: list[str], expected: tuple[str, ...]) -> None:
    """Each exchange is the expected one, and there is no other."""
    assert len(seen) == len(expected), "\n".join(seen)
    for one, part in zip(seen, expected, strict=True):
        assert part in one, "\n".join(seen)


@pytest.mark.parametrize(
    "path",
    [
        "/telemetry/services",
        "/telemetry/metrics/names",
        "/telemetry/logs",
        "/telemetry/traces",
        "/auth/me",
    ],
)
async def test_a_question_to_telemetry_waits_for_PostgreSQL_once(wire: Wire, path: str) -> None:
    assert_are(await wire.seen_of("GET", path), (SESSION,))


async def test_a_named_tenant_costs_no_exchange(wire: Wire) -> None:
    headers = {"X-Tenant-Id": str(wire.seeded.tenant)}

    assert_are(await wire.seen_of("GET", "/telemetry/services", headers=headers), (SESSION,))


async def test_a_question_of_a_key_waits_for_PostgreSQL_once(wire: Wire) -> None:
    made = await wire.client.post("/api-keys", {"name": "Reports", "preset": "readOnly"})
    headers = {"X-API-Key": f"{made.json['key']['keyId']}:{made.json['secret']}"}
    nobody = wire.client.as_(None)

    seen = await wire.seen_of("GET", "/telemetry/services", client=nobody, headers=headers)

    assert_are(seen, (KEY,))


async def test_a_read_is_its_authentication_and_a_transaction(wire: Wire) -> None:
    assert_are(await wire.seen_of("GET", "/workspaces"), (SESSION, *READ))
    assert_are(await wire.seen_of("GET", f"/workspaces/{wire.seeded.workspace}"), (SESSION, *READ))


async def test_a_write_is_its_authentication_and_a_transaction_then_it_is_read(wire: Wire) -> None:
    body = {"name": "W", "slug": "w-{}"}

    assert_are(await wire.seen_of("POST", "/workspaces", body), (SESSION, *CREATE, *READ))


async def test_an_idempotency_key_costs_a_transaction_before_and_one_after(wire: Wire) -> None:
    seen = await wire.seen_of(
        "POST",
        "/workspaces",
        {"name": "W", "slug": "w-{}"},
        headers={"Idempotency-Key": "key-{}"},
    )

    claim = (BEGIN, "INTO idempotency_keys", COMMIT)
    keep = (BEGIN, "UPDATE idempotency_keys", COMMIT)
    marked = (*CREATE[:-1], "UPDATE idempotency_keys", COMMIT)
    assert_are(seen, (SESSION, *claim, *marked, *READ, *keep))


async def test_a_changed_role_is_looked_up_once(wire: Wire) -> None:
    await wire.seen_of("GET", "/auth/me")
    role = await wire.client.post("/roles", {"name": "R", "permissions": [], "level": 4})
    assert role.status == 201, role.text
    await wire.client.delete(f"/roles/{role.json['id']}")

    seen = []
    for _ in range(2):
        wire.exchanges.seen.clear()
        await wire.client.get("/auth/me")
        seen.append(list(wire.exchanges.seen))

    assert_are(seen[0], (SESSION, "permissions_of", "active_tenants_of"))
    assert_are(seen[1], (SESSION,))
