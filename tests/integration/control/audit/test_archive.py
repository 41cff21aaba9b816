"""Months of the trail go into ClickHouse, once and whole; the chain holds through both stores."""

import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from control.audit.archiving import archive_old_months
from control.audit.verification import Verdict, verify
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from shared.errors import Unavailable
from shared.messaging.events import utc_now
from shared.postgres.address import PostgresAddress
from shared.postgres.scope import PLATFORM
from tests.control.client import Client
from tests.control.product import Running, running, settings_for
from tests.integration.shared.embedded_server import EmbeddedServer

THIS_MONTH = datetime.now(UTC).date().replace(day=1)
OLD = (THIS_MONTH - timedelta(days=150)).replace(day=1)
SINCE = f"startDate={OLD:%Y-%m-%d}T00:00:00Z"


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("clickhouse") / "data") as server:
        yield server


@pytest.fixture
async def product(
    database_address: PostgresAddress, tmp_path: Path, clickhouse: EmbeddedServer
) -> AsyncIterator[Running]:
    database = f"audit_{uuid4().hex[:8]}"
    settings = settings_for(
        database_address,
        tmp_path,
        clickhouse_host="127.0.0.1",
        clickhouse_port=clickhouse.port,
        clickhouse_database=database,
    )
    async with ClickHouse(ClickHouseAddress.of(settings)) as connection:
        await Migrator(connection.command, connection.query, database=database).migrate()
    async with running(settings, tmp_path) as product:
        yield product


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


@pytest.fixture
async def ada(product: Running, owner: Any) -> Client:
    """Administers an organization; what was done until now was done five months ago."""
    ada = await product.registered("ada@example.com")
    await ada.post("/api-keys", {"name": "old"})
    await product.work()
    await owner.execute("SELECT make_audit_partition($1)", OLD)
    await owner.execute("ALTER TABLE audit_logs DISABLE TRIGGER USER")
    await owner.execute("UPDATE audit_logs SET month = $1", OLD)
    await owner.execute("ALTER TABLE audit_logs ENABLE TRIGGER USER")
    await ada.post("/api-keys", {"name": "new"})
    await product.work()
    return ada


async def archived(product: Running) -> list[date]:
    audit = product.control.audit
    return await archive_old_months(
        product.control.database, audit.archive, audit.checkpoints, now=utc_now()
    )


async def looked_through(product: Running, *, is_hot_only: bool = False) -> Verdict:
    audit = product.control.audit
    checkpoints = [one async for one in audit.checkpoints.read()]
    async with product.control.database.snapshot(PLATFORM) as connection:
        return await verify(
            connection,
            checkpoints,
            keys=audit.keys,
            archive=None if is_hot_only else audit.archive,
        )


async def total(product: Running) -> int:
    archive = product.control.audit.archive
    return await archive.count(f"SELECT count() FROM {archive.table} FINAL", {})


async def hot(owner: Any) -> int:
    count: int = await owner.fetchval("SELECT count(*) FROM audit_logs")
    return count


async def names(client: Client, query: str) -> list[str]:
    answer = await client.get(f"/audit-logs?action=api_key.created&{query}")
    assert answer.status == 200, answer.text
    return [one["metadata"]["name"] for one in answer.json["data"]]


async def test_G07_an_old_month_is_archived_once_and_the_chain_holds_through_both_stores(
    product: Running, ada: Client, owner: Any
) -> None:
    before = await hot(owner)

    assert await archived(product) == [OLD]

    assert 0 < await hot(owner) < before
    assert await total(product) + await hot(owner) == before
    assert await archived(product) == []
    whole, rest = await looked_through(product), await looked_through(product, is_hot_only=True)
    assert (whole.findings, rest.findings) == ([], [])
    assert (whole.entries, whole.archived) == (before, await total(product))
    assert rest.entries == await hot(owner)
    await ada.post("/api-keys", {"name": "newer"})
    await product.work()
    assert (await looked_through(product)).findings == []


async def test_G07_archiving_that_was_interrupted_goes_on_and_leaves_nothing_twice(
    product: Running, ada: Client, owner: Any
) -> None:
    rows = await owner.fetch(
        "SELECT * FROM audit_logs WHERE month = $1 ORDER BY organization_id, sequence", OLD
    )
    one = [_as_read(row) for row in rows if row["organization_id"] == rows[0]["organization_id"]]
    await product.control.audit.archive.add(one[:1])
    await product.control.audit.archive.add(one)
    assert (await looked_through(product)).findings == []

    assert await archived(product) == [OLD]

    assert await total(product) == len(rows)
    assert (await looked_through(product)).findings == []


def _as_read(row: Any) -> dict[str, Any]:
    """As a connection of the product reads it."""
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118
    return {
        name: UUID(bytes=value.bytes) if isinstance(value, UUID) else value
        for name, value in values.items()
    } | {"metadata": orjson.loads(row["metadata"])}


async def test_F30_while_clickhouse_is_away_the_months_stay(
    product: Running, ada: Client, owner: Any, clickhouse: EmbeddedServer
) -> None:
    before = await hot(owner)
    clickhouse.end(signal.SIGKILL)
    try:
        with pytest.raises(Unavailable):
            await archived(product)
        assert await hot(owner) == before
        assert (await ada.get("/audit-logs")).status == 200
        assert (await looked_through(product, is_hot_only=True)).findings == []
    finally:
        clickhouse.start()
    assert await archived(product) == [OLD]
    assert (await looked_through(product)).findings == []


async def test_S31_a_search_reaches_the_archive_and_no_other_organization(
    product: Running, ada: Client, owner: Any
) -> None:
    eve = await product.registered("eve@example.com")
    await archived(product)

    both = await ada.get(f"/audit-logs?action=api_key.created&{SINCE}")
    recent = await ada.get("/audit-logs?action=api_key.created")
    theirs = await eve.get(f"/audit-logs?action=api_key.created&{SINCE}")

    assert both.json["sources"] == ["postgresql", "archive"]
    assert both.json["meta"]["total"] == 2
    new, old = both.json["data"]
    assert (new["source"], new["metadata"]["name"]) == ("postgresql", "new")
    assert (old["source"], old["metadata"]["name"]) == ("archive", "old")
    assert (old["email"], old["ipAddress"]) == ("ada@example.com", "127.0.0.1")
    assert (recent.json["sources"], len(recent.json["data"])) == (["postgresql"], 1)
    assert theirs.json["data"] == []
    assert (await ada.get(f"/audit-logs/{old['id']}")).json == old
    assert (await eve.get(f"/audit-logs/{old['id']}")).status == 404
    export = await ada.get(f"/audit-logs/export?action=api_key.created&format=json&{SINCE}")
    assert len(export.json["data"]) == 2


async def test_every_filter_means_the_same_in_the_archive(
    product: Running, ada: Client, owner: Any
) -> None:
    await archived(product)
    (me,) = (await ada.get("/users")).json["data"]
    (_, old) = (await ada.get(f"/audit-logs?action=api_key.created&{SINCE}")).json["data"]
    later = f"{utc_now() + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"

    for query in (
        f"userId={me['id']}",
        "resourceType=api_key",
        "ipAddress=127.0.0.1",
        "result=success",
        f"endDate={later}",
        "search=KEY.creat",
        "search=ADA@example.com",
    ):
        assert await names(ada, f"{SINCE}&{query}") == ["new", "old"], query
    for query in (f"resourceId={old['resourceId']}", 'metadata={"name":"old"}'):
        assert await names(ada, f"{SINCE}&{query}") == ["old"], query
    for query in (
        f"userId={uuid4()}",
        "resourceType=user",
        "ipAddress=192.0.2.1",
        "result=failure",
        f"endDate={OLD:%Y-%m-%d}T00:00:00Z",
        "search=nobody@example.com",
        "search=%25",
        'metadata={"name":"none"}',
    ):
        assert await names(ada, f"{SINCE}&{query}") == [], query
    assert await names(ada, f"{SINCE}&sort=occurredAt") == ["old", "new"]
    assert await names(ada, f"{SINCE}&limit=1&page=2") == ["old"]
    assert (await ada.get("/audit-logs?metadata=[1]")).status == 400


ARCHIVE_TAMPERINGS = {
    "edited": "ALTER TABLE {table} UPDATE Action = 'x.y' WHERE {third}",
    "deleted": "ALTER TABLE {table} DELETE WHERE {third}",
    "emptied": "ALTER TABLE {table} DELETE WHERE {one} AND Sequence >= 3",
    "inserted": "INSERT INTO {table} SELECT * REPLACE('x.y' AS Action) FROM {table} WHERE {third}",
}


async def test_G03_what_is_done_to_the_archive_is_found(
    product: Running, ada: Client, clickhouse: EmbeddedServer
) -> None:
    await archived(product)
    organization = (await ada.get("/tenants")).json["data"][0]["organizationId"]
    one = f"OrganizationId = '{organization}'"
    table = product.control.audit.archive.table
    clickhouse.run(f"CREATE TABLE {table}_kept ENGINE = Memory AS SELECT * FROM {table} FINAL")

    found = {}
    for name, statement in ARCHIVE_TAMPERINGS.items():
        third = f"{one} AND Sequence = 3"
        clickhouse.run(statement.format(table=table, one=one, third=third), {"mutations_sync": "2"})
        findings = (await looked_through(product)).findings
        found[name] = [(first.organization_id, first.sequence) for first in findings[:1]]
        clickhouse.run(f"TRUNCATE TABLE {table}")
        clickhouse.run(f"INSERT INTO {table} SELECT * FROM {table}_kept")
        assert (await looked_through(product)).findings == []

    assert found == {name: [(UUID(organization), 3)] for name in ARCHIVE_TAMPERINGS}


async def test_G03_a_month_that_a_superuser_drops_is_found(
    product: Running, ada: Client, owner: Any
) -> None:
    organization = (await ada.get("/tenants")).json["data"][0]["organizationId"]
    await owner.execute(f"DROP TABLE audit_logs_{OLD:%Y_%m}")

    for is_hot_only in (False, True):
        found = (await looked_through(product, is_hot_only=is_hot_only)).findings
        first = next(one for one in found if one.organization_id == UUID(organization))
        assert first.sequence == 1


async def test_G01_the_product_drops_nothing_but_whole_old_months_that_are_told_as_they_are(
    product: Running, ada: Client, owner: Any
) -> None:
    months = (f"audit_logs_{OLD:%Y_%m}", f"audit_logs_{THIS_MONTH:%Y_%m}")
    refused: list[tuple[type[Exception], str]] = [
        (asyncpg.RaiseError, f"SELECT drop_audit_month('{THIS_MONTH}', '{{}}')"),
        (asyncpg.RaiseError, f"SELECT drop_audit_month('{OLD + timedelta(days=1)}', '{{}}')"),
        (asyncpg.RaiseError, f"SELECT drop_audit_month('{OLD}', '{{\"pruned\": {{}}}}')"),
        (asyncpg.InsufficientPrivilegeError, "SELECT make_audit_partition('2020-01-01')"),
        (asyncpg.InsufficientPrivilegeError, "UPDATE audit_chains SET pruned_sequence = 7"),
        (asyncpg.InsufficientPrivilegeError, "DELETE FROM audit_prunings"),
        (asyncpg.InsufficientPrivilegeError, "DELETE FROM audit_person_keys"),
    ]
    refused += [
        (asyncpg.InsufficientPrivilegeError, f"{statement} {table}")
        for table in months
        for statement in ("DROP TABLE", "DELETE FROM", "TRUNCATE", "SELECT FROM")
    ]
    before = await hot(owner)
    for error, statement in refused:
        async with product.control.database.pool.acquire() as connection:
            with pytest.raises(error):
                await connection.execute(statement)
    assert await hot(owner) == before


async def test_who_is_purged_is_nobody_in_the_archive_too(
    product: Running, ada: Client, owner: Any
) -> None:
    await archived(product)
    (me,) = (await ada.get("/users")).json["data"]
    async with product.control.database.begin(PLATFORM) as connection:
        await product.control.audit.keys.erase(connection, UUID(me["id"]))

    entries = (await ada.get(f"/audit-logs?limit=100&{SINCE}")).json["data"]

    assert {one["source"] for one in entries} == {"postgresql", "archive"}
    assert not any("ada@example.com" in str(one) for one in entries)
    assert await names(ada, f"{SINCE}&ipAddress=127.0.0.1") == []
    # Nobody was purged: that the key is gone is found.
    assert {one.what for one in (await looked_through(product)).findings} == {
        "who it was is missing, though nobody was purged"
    }
