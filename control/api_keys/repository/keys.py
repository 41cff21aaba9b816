"""API keys as rows."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from control.api_keys.domain.keys import NOTICE, ApiKey, Place
from control.api_keys.domain.limits import Rates
from shared.errors import Conflict, NotFound
from shared.messaging.events import Event
from shared.postgres.connection import Connection
from shared.postgres.rows import save_row

# Every gateway keeps all keys of all tenants in memory.
KEYS_OF_A_TENANT_MAX: Final = 1_000
KEYS_OF_A_WORKSPACE_MAX: Final = 1_000
_KEY: Final = """
    SELECT id, version, organization_id, tenant_id, workspace_id, key_id, secret_hash, pepper_id,
           name, description, permissions, allowed_networks, status, created_by, expires_at,
           grace_ends_at, replaced_by, revoked_at, revoked_by, noticed_at, created_at,
           requests_per_minute, items_per_second, bytes_per_second
      FROM api_keys
"""


class ApiKeys:
    """Repository, opened for one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events: list[Event] = []

    async def get(self, key_id: UUID, place: Place) -> ApiKey:
        """A key of the tenant, or of the workspace around it, locked; NotFound without one."""
        row = await self._connection.fetchrow(
            f"{_KEY} WHERE id = $1 AND (tenant_id = $2 OR workspace_id = $3) FOR UPDATE",
            key_id,
            *place,
        )
        if row is None:
            raise NotFound("no such API key")
        return _of(row)

    async def due(self, now: datetime, limit: int) -> list[ApiKey]:
        """Keys that time has ended, or that will end soon and nobody was told; locked."""
        rows = await self._connection.fetch(
            f"""
            {_KEY}
             WHERE status IN ('active', 'rotated')
               AND (expires_at <= $1 OR grace_ends_at <= $1
                    OR (status = 'active' AND expires_at <= $2 AND noticed_at IS NULL))
             ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED
            """,
            now,
            now + NOTICE,
            limit,
        )
        return [_of(row) for row in rows]

    async def require_room(self, key: ApiKey) -> None:
        """Conflict, when what *key* belongs to has as many as it may; its row is locked for the
        count.
        """
        if key.tenant_id is not None:
            await self._connection.execute(
                "SELECT FROM tenants WHERE id = $1 FOR UPDATE", key.tenant_id
            )
            what, keys_max = "tenant", KEYS_OF_A_TENANT_MAX
        else:
            await self._connection.execute(
                "SELECT FROM workspaces WHERE id = $1 FOR UPDATE", key.workspace_id
            )
            what, keys_max = "workspace", KEYS_OF_A_WORKSPACE_MAX
        count = await self._connection.fetchval(
            """
            SELECT count(*) FROM api_keys
             WHERE (tenant_id = $1 OR workspace_id = $2) AND status IN ('active', 'rotated')
            """,
            key.tenant_id,
            key.workspace_id,
        )
        if count >= keys_max:
            raise Conflict(f"a {what} has at most {keys_max} keys that work: revoke one first")

    async def save(self, keys: Sequence[ApiKey]) -> None:
        """Insert or update."""
        for key in keys:
            columns = {
                name: getattr(key, name)
                for name in (
                    *("organization_id", "tenant_id", "workspace_id", "key_id", "secret_hash"),
                    *("pepper_id", "name", "description", "status", "created_by", "expires_at"),
                    *("grace_ends_at", "replaced_by", "revoked_at", "revoked_by", "noticed_at"),
                )
            }
            columns["permissions"] = sorted(key.permissions)
            columns["allowed_networks"] = list(key.allowed_networks)
            columns |= asdict(key.limits)
            await save_row(self._connection, "api_keys", key, columns)
            self.events += key.release_events()


def _of(row: Any) -> ApiKey:
    values = dict(row)
    values["limits"] = Rates(**{one.name: values.pop(one.name) for one in fields(Rates)})
    return ApiKey(**values | {"permissions": frozenset(values["permissions"])})
