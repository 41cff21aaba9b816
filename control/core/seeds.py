"""What every installation begins with: the roles of the system, and the first organization."""

from typing import Any

import asyncpg

from control.core.domain.permissions import PERMISSIONS, TIERS, Tier
from shared.postgres.address import PostgresAddress


async def write_catalogue(address: PostgresAddress) -> None:
    """Bring permissions and the system's roles to what this release says; safe to repeat.

    Runs as the owner of the tables: the role that processes have may not write these rows.
    """
    connection = await asyncpg.connect(**address.options(), timeout=10)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE permissions IN SHARE ROW EXCLUSIVE MODE")
            await connection.executemany(
                """
                INSERT INTO permissions (id, name, resource, action, description)
                VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (id) DO UPDATE SET description = excluded.description
                """,
                [
                    (one.id, one.name, one.resource, one.action, one.description)
                    for one in PERMISSIONS.values()
                ],
            )
            for tier in TIERS:
                await _write_tier(connection, tier)
    finally:
        await connection.close()


async def _write_tier(connection: Any, tier: Tier) -> None:
    wanted = [PERMISSIONS[name].id for name in sorted(tier.permissions)]
    await connection.execute(
        """
        INSERT INTO roles (id, version, organization_id, name, description, level, is_system)
        VALUES ($1, 1, NULL, $2, $3, $4, true)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description
        """,
        tier.id,
        tier.name,
        tier.description,
        tier.level,
    )
    gone = await connection.execute(
        "DELETE FROM role_permissions WHERE role_id = $1 AND permission_id <> ALL($2)",
        tier.id,
        wanted,
    )
    added = await connection.fetch(
        """
        INSERT INTO role_permissions (role_id, permission_id)
        SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING RETURNING permission_id
        """,
        tier.id,
        wanted,
    )
    if gone != "DELETE 0" or added:
        await connection.execute("UPDATE organizations SET access_version = access_version + 1")
