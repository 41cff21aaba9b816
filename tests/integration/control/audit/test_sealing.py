"""Entries of before they were sealed: moved by the migration, sealed by the worker, one chain."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from control.app import audit_of, secret_box
from control.audit.domain import Entry, first_digest, json_of
from control.audit.sealing import seal_old
from control.audit.verification import Verdict, verify
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.postgres.address import PostgresAddress
from shared.postgres.database import Database
from shared.postgres.migrate import create_database, migrate, migrations
from shared.postgres.scope import PLATFORM
from tests.control.product import settings_for

ORGANIZATION, ADA, BOB = uuid4(), uuid4(), uuid4()
PERSONAL = {
    "email": "ada@example.com",
    "ip_address": "192.0.2.1",
    "user_agent": "curl/8",
    "details": {"email": "bob@example.com", "first_name": "Bob"},
}


async def record_as_0008(connection: Any) -> None:
    """Two months of a chain, as the release before 0012 recorded it."""
    digest = first_digest(ORGANIZATION)
    for sequence in range(1, 5):
        salt = bytes([sequence]) * 16
        entry = Entry(
            id=uuid4(),
            organization_id=ORGANIZATION,
            sequence=sequence,
            occurred_at=datetime(2026, 8 + sequence // 3, 1, tzinfo=UTC),
            tenant_id=None,
            user_id=ADA,
            actor="user",
            action="user.created",
            result="success",
            resource_type="user",
            resource_id=BOB,
            request_id="r",
            session_id="",
            metadata={"changed": ["name"]},
            personal_digest=hashlib.sha256(salt + json_of(PERSONAL)).digest(),
        )
        digest = entry.digest(digest)
        values = entry._asdict()
        values |= {"metadata": json.dumps(entry.metadata), "digest": digest}
        slots = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        await connection.execute(
            f"INSERT INTO audit_logs ({', '.join(values)}) VALUES ({slots})", *values.values()
        )
        await connection.execute(
            "INSERT INTO audit_personal VALUES ($1, $2, $3, $4, $5, $6, $7)",
            entry.id,
            ORGANIZATION,
            salt,
            *[one if isinstance(one, str) else json.dumps(one) for one in PERSONAL.values()],
        )
    await connection.execute("INSERT INTO audit_chains VALUES ($1, 4, $2)", ORGANIZATION, digest)


async def test_S65_what_was_kept_in_the_clear_is_sealed_and_the_chain_still_holds(
    database_address: PostgresAddress, tmp_path: Any
) -> None:
    address = database_address.at(f"before_{uuid4().hex[:8]}")
    await create_database(address)
    all_of_them = migrations("control")
    await migrate(address, [one for one in all_of_them if one.number < 12])
    owner = await asyncpg.connect(**address.options())
    await record_as_0008(owner)
    await migrate(address, all_of_them)
    settings = settings_for(address, tmp_path)
    clickhouse = ClickHouse(ClickHouseAddress.of(settings))
    audit = audit_of(settings, secret_box(settings), clickhouse)
    database = await Database.open(address, size_max=2, statement_seconds_max=10)

    async def looked_through() -> Verdict:
        async with database.snapshot(PLATFORM) as connection:
            return await verify(connection, [], keys=audit.keys, archive=None)

    try:
        assert await seal_old(database, audit.keys) == 4
        assert await seal_old(database, audit.keys) == 0

        assert await owner.fetchval("SELECT count(*) FROM audit_personal") == 0
        rows = await owner.fetch("SELECT * FROM audit_logs ORDER BY sequence")
        assert "example.com" not in str([dict(row) for row in rows])
        assert [f"{row['month']:%m}" for row in rows] == ["08", "08", "09", "09"]
        assert (await looked_through()).findings == []
        with pytest.raises(asyncpg.RaiseError, match="only ever added"):
            await owner.execute("UPDATE audit_logs SET actor_sealed = subject_sealed")
        await owner.execute("ALTER TABLE audit_logs DISABLE TRIGGER USER")
        await owner.execute(
            "UPDATE audit_logs SET actor_sealed = (SELECT actor_sealed FROM audit_logs "
            "WHERE sequence = 1) WHERE sequence = 2"
        )
        (finding,) = (await looked_through()).findings
        assert (finding.sequence, finding.what) == (2, "who it was is not what was recorded")
        async with database.begin(PLATFORM) as connection:
            await audit.keys.erase(connection, BOB)
        assert {one.what for one in (await looked_through()).findings} == {
            "who it was is missing, though nobody was purged"
        }
    finally:
        await database.close()
        await owner.close()
