"""The audit trail on a real PostgreSQL: complete, closed to change, and honest about tampering."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from control.audit.checkpoints import Checkpoints
from control.audit.recorder import Recorder
from control.audit.verification import Verdict, verify
from control.core.events import RegionCreated
from shared.messaging.events import utc_now
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM
from tests.control.client import Client
from tests.control.product import Running

NEW = {"name": "=cmd|' /C calc'!A0"}


@pytest.fixture
async def ada(product: Running) -> Client:
    """Administers an organization of her own."""
    return await product.registered("ada@example.com")


@pytest.fixture
async def owner(product: Running) -> AsyncIterator[Any]:
    """A connection of who owns the tables, and may do everything."""
    settings = product.control.settings
    connection = await asyncpg.connect(
        host=settings.db_host,
        port=settings.db_port,
        user=settings.db_username,
        password=settings.db_password or None,
        database=settings.db_database,
    )
    yield connection
    await connection.close()


async def actions(client: Client, path: str = "/audit-logs", query: str = "") -> list[str]:
    answer = await client.get(f"{path}?limit=100{query}")
    assert answer.status == 200, answer.text
    return [one["action"] for one in answer.json["data"]]


async def looked_through(product: Running) -> Verdict:
    audit = product.control.audit
    checkpoints = [one async for one in audit.checkpoints.read()]
    async with product.control.database.snapshot(PLATFORM) as connection:
        return await verify(connection, checkpoints, keys=audit.keys, archive=None)


async def sign(product: Running) -> bool:
    async with product.control.database.read(PLATFORM) as connection:
        return await Checkpoints(product.control.settings).write(connection, now=utc_now())


async def test_what_somebody_does_is_in_the_trail_with_who_and_from_where(
    product: Running, ada: Client
) -> None:
    made = (await ada.post("/api-keys", NEW)).json["key"]
    await ada.get("/tenants", **{"X-Tenant-Id": str(uuid4())})
    await product.work()

    (entry,) = (await ada.get("/audit-logs?action=api_key.created")).json["data"]
    (me,) = (await ada.get("/users")).json["data"]

    assert entry["resourceId"] == made["id"]
    assert (entry["email"], entry["ipAddress"]) == ("ada@example.com", "127.0.0.1")
    assert entry["userId"] == me["id"]
    assert entry["metadata"]["name"] == NEW["name"]
    assert entry["requestId"]
    assert "auth.login" in await actions(ada)
    assert await actions(ada, query="&result=failure") == ["security.access_denied"]
    assert await actions(ada, query=f"&resourceId={made['id']}") == ["api_key.created"]
    assert await actions(ada, query="&ipAddress=192.0.2.1") == []
    assert await actions(ada, query="&startDate=2999-01-01T00:00:00Z") == []
    assert (await ada.get(f"/audit-logs/{entry['id']}")).json == entry
    assert "api_key.created" in await actions(ada, "/me/audit-logs")


async def test_S31_the_trail_of_another_organization_does_not_exist(
    product: Running, ada: Client
) -> None:
    eve = await product.registered("eve@example.com")
    await ada.post("/api-keys", NEW)
    await product.work()
    (entry,) = (await ada.get("/audit-logs?action=api_key.created")).json["data"]

    assert "api_key.created" not in await actions(eve)
    assert (await eve.get(f"/audit-logs/{entry['id']}")).status == 404
    assert "api_key.created" not in (await eve.get("/audit-logs/export")).text
    assert (await product.client.get("/audit-logs")).status == 401


async def test_S61_the_trail_is_taken_out_as_files(product: Running, ada: Client) -> None:
    await ada.post("/api-keys", NEW)
    await product.work()

    table = await ada.get("/audit-logs/export?action=api_key.created")
    document = await ada.get("/audit-logs/export?action=api_key.created&format=json")

    assert table.headers["Content-Type"].startswith("text/csv")
    assert "attachment" in table.headers["Content-Disposition"]
    assert table.text.splitlines()[0].startswith('"id","organizationId","sequence"')
    assert '"api_key.created"' in table.text
    assert [one["metadata"]["name"] for one in document.json["data"]] == [NEW["name"]]


async def test_G02_many_recorders_make_one_chain_with_each_event_once(
    product: Running,
) -> None:
    database = product.control.database
    async with database.begin(PLATFORM) as connection:
        events = [
            RegionCreated(aggregate_id=uuid4(), name=f"R {number}", code=f"r{number}")
            for number in range(50)
        ]
        await append_to_outbox(connection, events)
    recorders = [Recorder(database, product.control.audit.keys) for _ in range(4)]
    while sum(await asyncio.gather(*(one.record() for one in recorders))):
        pass

    async with database.read(PLATFORM) as connection:
        rows = await connection.fetch(
            "SELECT id FROM audit_logs WHERE action = 'region.created' ORDER BY sequence"
        )
    recorded = [row["id"] for row in rows]
    assert [one.event_id for one in events] == [
        one for one in recorded if one in {event.event_id for event in events}
    ]
    assert len(set(recorded)) == len(recorded)
    assert (await looked_through(product)).findings == []


async def test_G01_the_product_itself_cannot_change_what_is_recorded(
    product: Running, owner: Any
) -> None:
    await product.work()
    for statement in (
        "UPDATE audit_logs SET action = 'x.y'",
        "DELETE FROM audit_logs",
        "TRUNCATE audit_logs CASCADE",
    ):
        async with product.control.database.pool.acquire() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        with pytest.raises(asyncpg.RaiseError, match="only ever added"):
            await owner.execute(statement)


TAMPERINGS = {
    "edited": "UPDATE audit_logs SET action = 'user.created' WHERE sequence = 3 AND {one}",
    "who edited": "UPDATE audit_logs SET actor_sealed = '\\x00' WHERE id = {third}",
    "who exchanged": """
        UPDATE audit_logs SET actor_sealed = (SELECT actor_sealed FROM audit_logs
         WHERE {one} AND actor_sealed IS NOT NULL LIMIT 1) WHERE id = {third}
    """,
    "hidden from a search": "UPDATE audit_logs SET ip_index = '\\x00' WHERE id = {third}",
    "deleted": "DELETE FROM audit_logs WHERE sequence = 3 AND {one}",
    "reordered": """
        UPDATE audit_logs SET sequence = -3 WHERE sequence = 3 AND {one};
        UPDATE audit_logs SET sequence = 3 WHERE sequence = 4 AND {one};
        UPDATE audit_logs SET sequence = 4 WHERE sequence = -3 AND {one}
    """,
    "inserted": """
        UPDATE audit_logs SET sequence = -sequence - 1 WHERE sequence >= 3 AND {one};
        UPDATE audit_logs SET sequence = -sequence WHERE sequence < 0 AND {one};
        INSERT INTO audit_logs SELECT (jsonb_populate_record(audit_logs,
          jsonb_build_object('id', gen_random_uuid(), 'sequence', 3))).*
          FROM audit_logs WHERE sequence = 4 AND {one}
    """,
    "tail cut": """
        DELETE FROM audit_logs WHERE sequence >= 3 AND {one};
        UPDATE audit_chains SET sequence = 2, digest =
          (SELECT digest FROM audit_logs WHERE sequence = 2 AND {one}) WHERE {one}
    """,
}


RESTORED = """
    TRUNCATE audit_chains, audit_logs;
    INSERT INTO audit_logs SELECT * FROM kept_logs;
    INSERT INTO audit_chains SELECT * FROM kept_chains
"""


async def test_G03_what_a_superuser_does_to_the_trail_is_found(
    product: Running, ada: Client, owner: Any
) -> None:
    for _ in range(4):
        await ada.post("/api-keys", NEW)
    await product.work()
    assert await sign(product)
    assert (await looked_through(product)).findings == []
    organization = (await ada.get("/tenants")).json["data"][0]["organizationId"]
    one = f"organization_id = '{organization}'"
    third = f"(SELECT id FROM audit_logs WHERE sequence = 3 AND {one})"

    # No trigger fires: a superuser can do that.
    await owner.execute("SET session_replication_role = replica")
    await owner.execute("CREATE TABLE kept_logs AS SELECT * FROM audit_logs")
    await owner.execute("CREATE TABLE kept_chains AS SELECT * FROM audit_chains")

    found = {}
    for name, statements in TAMPERINGS.items():
        await owner.execute(statements.format(one=one, third=third))
        findings = (await looked_through(product)).findings
        found[name] = [(first.organization_id, first.sequence) for first in findings[:1]]
        await owner.execute(RESTORED)
        assert (await looked_through(product)).findings == []

    assert found == {name: [(UUID(organization), 3)] for name in TAMPERINGS}


async def test_G03_a_chain_that_is_written_anew_is_not_the_one_that_was_signed(
    product: Running, ada: Client, owner: Any
) -> None:
    await ada.post("/api-keys", NEW)
    await product.work()
    assert await sign(product)
    await owner.execute("SET session_replication_role = replica; TRUNCATE audit_chains, audit_logs")
    await owner.execute("SET session_replication_role = origin")
    await owner.execute(
        'UPDATE outbox SET audited_at = NULL, payload = payload || \'{"name": "harmless"}\' '
    )
    await product.work()

    verdict = await looked_through(product)

    assert verdict.findings
    assert {one.what for one in verdict.findings} == {"the chain is not the one that was signed"}


async def test_G03_a_checkpoint_that_is_altered_is_found(product: Running, ada: Client) -> None:
    await product.work()
    await sign(product)
    (path,) = (product.control.settings.data_dir / "audit").glob("*.jsonl")
    assert path.stat().st_mode & 0o077 == 0
    path.write_text(path.read_text().replace("[", "[1", 1))

    (finding,) = (await looked_through(product)).findings

    assert "is not signed by this product" in finding.what


async def test_who_is_purged_is_nobody_and_the_chain_still_holds(
    product: Running, ada: Client
) -> None:
    person = {"email": "bob@example.com", "firstName": "Bob", "lastName": "Builder"}
    bob = (await ada.post("/users", person)).json
    await product.work()
    assert any("Bob" in text for text in await texts(ada))
    await ada.delete(f"/users/{bob['id']}")
    purged = await ada.post(f"/users/{bob['id']}/purge")
    assert purged.status in (200, 204), purged.text
    await product.work()
    await sign(product)

    assert not any("Bob" in text or "bob@" in text for text in await texts(ada))
    assert "user.purged" in await actions(ada)
    assert "user.created" in await actions(ada, query=f"&resourceId={bob['id']}")
    assert (await looked_through(product)).findings == []


async def texts(client: Client) -> Iterable[str]:
    answer = await client.get("/audit-logs?limit=100")
    return [str(one) for one in answer.json["data"]]
