"""API keys that read: what they may, whose data it is, and when they are refused."""

import asyncio
import base64
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from control.app import ROUTES
from shared.errors import Unavailable
from shared.http.routes import Route
from shared.messaging.commands import ANYBODY
from shared.postgres.address import PostgresAddress
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM
from tests.control.client import Client, Reply
from tests.control.people import seed
from tests.control.product import Running, running, settings_for
from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import Line, Span, logs_request, spans_request
from tests.integration.control.test_routes import path_of

LOGS, TRACES, METRICS = "/telemetry/logs", "/telemetry/traces", "/telemetry/metrics/names"
QUESTION = {"range": {"type": "relative", "last": "1h"}, "aggregations": [{"op": "count"}]}


@dataclass
class Key:
    """A key of the person who explores."""

    made: Any
    client: Client

    @property
    def pair(self) -> str:
        return f"{self.made['key']['keyId']}:{self.made['secret']}"

    @property
    def path(self) -> str:
        return f"/api-keys/{self.made['key']['id']}"

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.client.get(path, **{"Authorization": f"Bearer {self.pair}", **headers})


async def key_of(explorer: Explorer, **body: Any) -> Key:
    answer = await explorer.client.post(
        "/api-keys", {"name": "Reports", "preset": "readOnly", **body}
    )
    assert answer.status == 201, answer.text
    return Key(answer.json, explorer.client.as_(None))


async def fill(explorer: Explorer, tenant: str) -> None:
    """A log record whose text is the tenant's id, and a span of the same trace."""
    now = time.time_ns()
    await store(
        explorer.store, "logs", tenant, logs_request([Line(now, tenant, trace=7)]), received_ns=now
    )
    await store(explorer.store, "traces", tenant, spans_request([Span(7, 1, now)]), received_ns=now)


def bodies(answer: Reply) -> list[str]:
    assert answer.status == 200, answer.text
    return [one["body"] for one in answer.json["data"]]


async def change(explorer: Explorer, statement: str, *arguments: Any) -> None:
    async with explorer.product.control.database.begin(PLATFORM) as connection:
        await connection.execute(statement, *arguments)


async def test_S33_a_key_reads_its_own_tenant_in_every_form_that_gateways_take(
    explorer: Explorer,
) -> None:
    assert explorer.other is not None
    for one in (explorer, explorer.other):
        await fill(one, one.tenant)
    key, theirs = await key_of(explorer), await key_of(explorer.other)
    key_id, secret = key.pair.split(":")
    forms = (
        {"Authorization": f"Bearer {key.pair}"},
        {"Authorization": f"Bearer {key_id}.{secret}"},
        {"Authorization": f"Basic {base64.b64encode(key.pair.encode()).decode()}"},
        {"X-API-Key": key.pair},
        {"X-API-Key-ID": key_id, "X-API-Key-Secret": secret},
        {"X-TelemetryFlow-Key-ID": key_id, "X-TelemetryFlow-Key-Secret": secret},
    )

    for form in forms:
        assert bodies(await key.client.get(LOGS, **form)) == [explorer.tenant], form
    assert bodies(await theirs.get(LOGS)) == [explorer.other.tenant]
    both = await explorer.client.get(LOGS, **{"X-API-Key": key.pair})
    assert both.status == 401


async def test_a_key_reads_the_signals_that_it_may_and_nothing_else(explorer: Explorer) -> None:
    await fill(explorer, explorer.tenant)
    of_logs = await key_of(explorer, preset=None, permissions=["logs:read", "traces:write"])
    of_traces = await key_of(explorer, preset=None, permissions=["traces:read"])
    sender = await key_of(explorer, preset="ingestionOnly")

    async def statuses(key: Key) -> list[int]:
        asked = [await key.get(path) for path in (LOGS, TRACES, METRICS)]
        for source in ("logs", "traces"):
            body = {"query": QUESTION | {"source": source}}
            sent = {"Authorization": f"Bearer {key.pair}"}
            asked.append(await key.client.post("/telemetry/query", body, **sent))
        return [one.status for one in asked]

    assert await statuses(of_logs) == [200, 403, 403, 200, 403]
    assert await statuses(of_traces) == [403, 200, 403, 403, 200]
    assert await statuses(sender) == [403] * 5
    refused = await sender.get(LOGS)
    assert refused.json["detail"] == "this needs the permission logs:read"
    waterfall = f"{TRACES}/{7:032x}"
    assert (await of_traces.get(waterfall)).json["logs"] == []
    assert len((await explorer.client.get(waterfall)).json["logs"]) == 1
    assert (await of_traces.get("/telemetry/attributes?signal=logs")).status == 403


async def test_keys_that_ended_or_were_never_made_are_refused(explorer: Explorer) -> None:
    revoked, rotated, grace, expired = [await key_of(explorer) for _ in range(4)]
    client = explorer.client
    assert (await client.post(f"{revoked.path}/revoke")).status == 200
    for key, minutes in ((rotated, 0), (grace, 5)):
        made = await client.post(f"{key.path}/rotate", {"gracePeriodMinutes": minutes})
        assert (await replace(key, made=made.json).get(LOGS)).status == 200
    await change(
        explorer,
        "UPDATE api_keys SET expires_at = now() WHERE key_id = $1",
        expired.made["key"]["keyId"],
    )
    key_id, secret = revoked.pair.split(":")
    good = await key_of(explorer)

    for wrong, reason in (
        (revoked.pair, "revoked or expired"),
        (rotated.pair, "revoked or expired"),
        (expired.pair, "revoked or expired"),
        (f"tfk_{uuid4().hex}:{secret}", "unknown API key, or wrong secret"),
        (f"{good.pair.split(':')[0]}:{secret}", "unknown API key, or wrong secret"),
        (f"{key_id}:tfs_1", "64 hex"),
        (f"{key_id}:{'0' * 64}", "64 hex"),
    ):
        answer = await client.as_(None).get(LOGS, Authorization=f"Bearer {wrong}")
        assert answer.status == 401, wrong
        assert reason in answer.json["detail"]
        assert secret not in answer.text
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await grace.get(LOGS)).status == 200
    assert (await good.get(LOGS)).status == 200


async def test_a_key_is_good_where_it_may_be_used_from(explorer: Explorer) -> None:
    key = await key_of(explorer, allowedNetworks=["10.0.0.0/8"])

    inside = await key.get(LOGS, **{"X-Forwarded-For": "10.1.2.3"})
    outside = await key.get(LOGS, **{"X-Forwarded-For": "11.1.2.3"})

    assert (inside.status, outside.status) == (200, 403)
    assert "may not be used from 11.1.2.3" in outside.json["detail"]


@pytest.mark.parametrize("table", ["tenants", "workspaces", "organizations"])
async def test_a_tenant_that_is_switched_off_shows_nothing(explorer: Explorer, table: str) -> None:
    key = await key_of(explorer)
    assert (await key.get(LOGS)).status == 200
    place: UUID = getattr(explorer.seeded, table.removesuffix("s"))

    await change(explorer, f"UPDATE {table} SET is_active = false WHERE id = $1", place)

    refused = await key.get(LOGS)
    assert refused.status == 403
    assert "deactivated" in refused.json["detail"]


async def test_S33_whatever_a_header_says_a_key_reads_no_other_tenant(explorer: Explorer) -> None:
    assert explorer.other is not None
    key = await key_of(explorer)
    own = {"X-Tenant-Id": explorer.tenant, "X-Workspace-Id": str(explorer.seeded.workspace)}

    foreign = [
        await key.get(LOGS, **{"X-Tenant-Id": name})
        for name in (explorer.other.tenant, str(uuid4()), "default")
    ]
    workspace = await key.get(LOGS, **{"X-Workspace-Id": str(explorer.other.seeded.workspace)})

    assert (await key.get(LOGS, **own)).status == 200
    assert [one.status for one in foreign] == [403] * 3
    assert {one.json["detail"] for one in foreign} == {
        "X-Tenant-Id names a tenant that is not yours"
    }
    assert workspace.status == 403
    async with explorer.product.control.database.read(PLATFORM) as connection:
        told = await connection.fetch(
            "SELECT context, payload FROM outbox WHERE event_type = 'SecurityEventDetected' "
            "AND payload->>'detail' LIKE 'asked for tenant%'"
        )
    assert len(told) == 3
    assert {one["context"]["keyId"] for one in told} == {key.made["key"]["keyId"]}


async def test_S33_a_key_of_a_workspace_reads_the_tenant_of_it_that_is_named(
    explorer: Explorer,
) -> None:
    assert explorer.other is not None
    client, workspace = explorer.client, explorer.seeded.workspace
    made = await client.post(
        "/tenants", {"workspaceId": str(workspace), "name": "Staging", "slug": "staging"}
    )
    staging = made.json["id"]
    for tenant in (explorer.tenant, staging, explorer.other.tenant):
        await fill(explorer, tenant)
    key = await key_of(explorer, scope="workspace")

    unnamed = await key.get(LOGS)
    foreign = await key.get(LOGS, **{"X-Tenant-Id": explorer.other.tenant})

    assert unnamed.status == 403
    assert "name one of its tenants in X-Tenant-Id" in unnamed.json["detail"]
    assert foreign.status == 403
    for tenant in (explorer.tenant, staging):
        assert bodies(await key.get(LOGS, **{"X-Tenant-Id": tenant})) == [tenant]


async def test_S30_keys_read_telemetry_and_do_nothing_else(explorer: Explorer) -> None:
    key = await key_of(explorer, preset="fullAccess")
    sent = {"Authorization": f"Bearer {key.pair}"}
    everything: list[Route] = [route for module in ROUTES for route in module.found]
    opened = 0

    for route in everything:
        if route.is_open_to_keys:
            assert route.path.startswith("/telemetry/"), route.name
            opened += 1
        elif route.permission != ANYBODY:
            answer = await key.client.ask(route.method, path_of(route), headers=sent)
            assert answer.status == 403, (route.name, answer.text)
            assert "this is for people" in answer.json["detail"]
    assert opened > 20


async def test_when_a_key_last_read_is_told_without_a_write_for_each_request(
    explorer: Explorer,
) -> None:
    key, uses = await key_of(explorer), explorer.product.control.uses
    statement = "SELECT count(*) FROM api_key_uses WHERE key_id = $1"

    async def written() -> int:
        async with explorer.product.control.database.read(PLATFORM) as connection:
            return int(await connection.fetchval(statement, key.made["key"]["keyId"]))

    for _ in range(3):
        assert (await key.get(LOGS)).status == 200
    assert await written() == 0
    await uses.write()
    assert await written() == 1
    shown = (await explorer.client.get(key.path)).json
    assert shown["lastUsedAt"] is not None
    assert shown["version"] == key.made["key"]["version"]


async def test_a_use_that_cannot_be_written_is_written_later_and_holds_up_no_end(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, uses = await key_of(explorer), explorer.product.control.uses
    assert (await key.get(LOGS)).status == 200
    stopping = asyncio.Event()
    stopping.set()

    with monkeypatch.context() as away:
        away.setattr(Database, "begin", _nothing_answers)
        await uses.run(stopping)
    await uses.run(stopping)

    assert (await explorer.client.get(key.path)).json["lastUsedAt"] is not None


def _nothing_answers(*_arguments: Any, **_options: Any) -> Any:
    raise Unavailable("the database is away")


async def test_each_key_has_an_allowance_of_its_own(
    database_address: PostgresAddress, tmp_path: Path
) -> None:
    settings = settings_for(database_address, tmp_path, throttle_limit=3)
    async with running(settings, tmp_path) as product:
        keys = await _two_keys(product)
        answers = [
            [
                (await product.client.get("/users", Authorization=f"Bearer {pair}")).status
                for _ in range(4)
            ]
            for pair in keys
        ]

    assert answers == [[403, 403, 403, 429]] * 2


async def _two_keys(product: Running) -> list[str]:
    seeded = await seed(product.control.database)
    client = product.client.as_((await product.tokens_of(seeded))[2])
    made = [(await client.post("/api-keys", {"name": "K"})).json for _ in range(2)]
    return [f"{one['key']['keyId']}:{one['secret']}" for one in made]
