"""People and invitations as rows."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from control.core.domain.people import Assignment, Invitation, User
from control.core.domain.permissions import PERMISSIONS
from control.core.events import UserPurged
from control.core.repository.tenancy import Rows, found
from shared.errors import NotFound

_USER = """
    SELECT id, version, organization_id, tenant_id, email, first_name, last_name, avatar_url,
           timezone, language, is_active, is_email_verified, deleted_at
      FROM users
"""
_INVITATION = """
    SELECT id, version, organization_id, user_id, email, invited_by, sent_count, expires_at,
           accepted_at, revoked_at
      FROM invitations
"""


class Users(Rows):
    """Repository of people, with their roles and their own permissions."""

    async def get(self, user_id: UUID, *, deleted: bool = False) -> User:
        """The person; NotFound when there is none; *deleted* finds those set aside too."""
        row = await self._connection.fetchrow(
            f"{_USER} WHERE id = $1 AND (deleted_at IS NULL OR $2) FOR UPDATE",
            user_id,
            deleted,
        )
        user = User(**found(row, "user"))
        user.assignments = [
            Assignment(**assignment)
            for assignment in await self._connection.fetch(
                "SELECT role_id, tenant_id, expires_at FROM user_roles WHERE user_id = $1", user_id
            )
        ]
        user.grants = {
            grant["name"]
            for grant in await self._connection.fetch(
                """
                SELECT permissions.name
                  FROM user_permissions JOIN permissions ON permissions.id = permission_id
                 WHERE user_id = $1
                """,
                user_id,
            )
        }
        return user

    async def require_all(self, organization_id: UUID, user_ids: Sequence[UUID]) -> None:
        """NotFound, unless all of them are people of the organization."""
        count = await self._connection.fetchval(
            """
            SELECT count(*) FROM users
             WHERE organization_id = $1 AND id = ANY($2) AND deleted_at IS NULL
            """,
            organization_id,
            user_ids,
        )
        if count != len(set(user_ids)):
            raise NotFound("no such user")

    async def save(self, user: User, *, by: UUID | None) -> None:
        """Insert or update; Conflict when the address is taken. *by* gave what is new."""
        columns = {
            "organization_id": user.organization_id,
            "tenant_id": user.tenant_id,
            "email": user.email,
            "first_name": user.first_name,
            "last_name": user.last_name,
            "avatar_url": user.avatar_url,
            "timezone": user.timezone,
            "language": user.language,
            "is_active": user.is_active,
            "is_email_verified": user.is_email_verified,
            "deleted_at": user.deleted_at,
        }
        await self._store("users", user, columns)
        await self._save_roles(user, by)
        await self._save_grants(user, by)

    async def _save_roles(self, user: User, by: UUID | None) -> None:
        await self._connection.execute(
            """
            DELETE FROM user_roles
             WHERE user_id = $1
               AND NOT EXISTS (
                 SELECT FROM unnest($2::uuid[], $3::uuid[]) AS kept (role_id, tenant_id)
                  WHERE kept.role_id = user_roles.role_id
                    AND kept.tenant_id IS NOT DISTINCT FROM user_roles.tenant_id)
            """,
            user.id,
            [one.role_id for one in user.assignments],
            [one.tenant_id for one in user.assignments],
        )
        await self._connection.executemany(
            """
            INSERT INTO user_roles (organization_id, user_id, role_id, tenant_id, expires_at,
                                    assigned_by)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id, role_id, tenant_id) DO NOTHING
            """,
            [
                (user.organization_id, user.id, one.role_id, one.tenant_id, one.expires_at, by)
                for one in user.assignments
            ],
        )

    async def _save_grants(self, user: User, by: UUID | None) -> None:
        wanted = [PERMISSIONS[name].id for name in sorted(user.grants)]
        await self._connection.execute(
            "DELETE FROM user_permissions WHERE user_id = $1 AND permission_id <> ALL($2)",
            user.id,
            wanted,
        )
        await self._connection.executemany(
            """
            INSERT INTO user_permissions (organization_id, user_id, permission_id, granted_by)
            VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
            """,
            [(user.organization_id, user.id, permission_id, by) for permission_id in wanted],
        )

    async def remove(self, user: User) -> None:
        """Delete the row, and all that hangs on it."""
        await self._connection.execute("DELETE FROM users WHERE id = $1", user.id)
        self._events += user.release_events()

    async def purge_all(self, organization_id: UUID) -> list[UUID]:
        """Delete everybody of an organization that goes, and tell the others to forget them."""
        rows = await self._connection.fetch(
            "DELETE FROM users WHERE organization_id = $1 RETURNING id", organization_id
        )
        ids = [row["id"] for row in rows]
        self._events += [
            UserPurged(aggregate_id=one, organization_id=organization_id) for one in ids
        ]
        return ids

    async def touch_login(self, user_id: UUID, at: datetime) -> None:
        """Note when they signed in; not an edit, so the version stays."""
        await self._connection.execute(
            "UPDATE users SET last_login_at = $2 WHERE id = $1", user_id, at
        )


class Invitations(Rows):
    """Repository of invitations."""

    async def get(self, invitation_id: UUID) -> Invitation:
        """The invitation; NotFound when there is none."""
        row = await self._connection.fetchrow(
            f"{_INVITATION} WHERE id = $1 FOR UPDATE", invitation_id
        )
        return Invitation(**found(row, "invitation"))

    async def save(self, invitation: Invitation) -> None:
        """Insert or update; Conflict when the person has an open one."""
        columns = {
            "organization_id": invitation.organization_id,
            "user_id": invitation.user_id,
            "email": invitation.email,
            "invited_by": invitation.invited_by,
            "sent_count": invitation.sent_count,
            "expires_at": invitation.expires_at,
            "accepted_at": invitation.accepted_at,
            "revoked_at": invitation.revoked_at,
        }
        await self._store("invitations", invitation, columns)
