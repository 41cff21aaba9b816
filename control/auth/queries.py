"""Reads of sessions, devices and the state of one's own account."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from shared.errors import NotFound
from shared.http.models import View
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM

SESSIONS_MAX = 200


class SessionView(View):
    """Where somebody is signed in."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ip_address: str = Field(examples=["203.0.113.7"])
    user_agent: str
    has_mfa: bool
    is_current: bool = Field(description="the session of this very request")


class DeviceView(View):
    """A device that need not show a second factor."""

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


class PasswordStatus(View):
    """How it stands with one's password."""

    changed_at: datetime | None
    expires_at: datetime | None = Field(description="null: never")
    must_change: bool
    mfa_enabled: bool
    recovery_codes_left: int


async def list_sessions(
    database: Database, account_id: UUID, current: UUID | None
) -> list[SessionView]:
    """Open sessions of one account, the last used first."""
    async with database.read(PLATFORM) as connection:
        rows = await connection.fetch(
            """
            SELECT id, created_at, last_used_at, expires_at, ip_address, user_agent, has_mfa,
                   id IS NOT DISTINCT FROM $2 AS is_current
              FROM sessions
             WHERE account_id = $1 AND ended_at IS NULL AND expires_at > now()
             ORDER BY last_used_at DESC LIMIT $3
            """,
            account_id,
            current,
            SESSIONS_MAX,
        )
    return [SessionView.of(row) for row in rows]


async def list_devices(database: Database, account_id: UUID) -> list[DeviceView]:
    """Trusted devices of one account."""
    async with database.read(PLATFORM) as connection:
        rows = await connection.fetch(
            """
            SELECT id, name, created_at, last_used_at, expires_at FROM trusted_devices
             WHERE account_id = $1 AND expires_at > now() ORDER BY created_at DESC LIMIT $2
            """,
            account_id,
            SESSIONS_MAX,
        )
    return [DeviceView.of(row) for row in rows]


async def password_status(database: Database, account_id: UUID, expiry_days: int) -> PasswordStatus:
    """Of one account."""
    async with database.read(PLATFORM) as connection:
        row = await connection.fetchrow(
            """
            SELECT password_changed_at AS changed_at,
                   CASE WHEN $2 > 0 THEN password_changed_at + $2 * interval '1 day' END
                     AS expires_at,
                   must_change_password AS must_change, mfa_enabled_at IS NOT NULL AS mfa_enabled,
                   (SELECT count(*) FROM recovery_codes WHERE account_id = accounts.id)
                     AS recovery_codes_left
              FROM accounts WHERE id = $1 AND closed_at IS NULL
            """,
            account_id,
            expiry_days,
        )
    if row is None:
        raise NotFound("no such account")
    return PasswordStatus.of(row)
