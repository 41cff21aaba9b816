"""Reads of people, roles, groups and invitations."""

from typing import Any, Final
from uuid import UUID

from control.core.domain.permissions import counts_in_tenant
from control.core.queries.views import (
    EffectivePermission,
    EffectivePermissions,
    GroupView,
    InvitationView,
    PermissionSource,
    PermissionView,
    RoleView,
    UserView,
)
from shared.errors import NotFound
from shared.http.models import Page, PageQuery
from shared.postgres.connection import Connection

_USER: Final = """
    users.id, version, users.created_at, updated_at, organization_id, tenant_id, email, first_name,
    last_name, avatar_url, timezone, language, is_active, is_email_verified, last_login_at,
    deleted_at,
    EXISTS (SELECT FROM invitations WHERE invitations.user_id = users.id
               AND accepted_at IS NULL AND revoked_at IS NULL) AS is_invited,
    coalesce((SELECT jsonb_agg(jsonb_build_object(
                'role_id', role_id, 'name', roles.name, 'level', level,
                'tenant_id', user_roles.tenant_id, 'assigned_at', assigned_at,
                'expires_at', expires_at) ORDER BY level, roles.name)
                FROM user_roles JOIN roles ON roles.id = role_id
               WHERE user_roles.user_id = users.id), '[]') AS roles
"""
_ROLE: Final = """
    id, version, created_at, updated_at, organization_id, name, description, level, is_system,
    ARRAY(SELECT permissions.name FROM role_permissions
            JOIN permissions ON permissions.id = permission_id
           WHERE role_id = roles.id ORDER BY 1) AS permissions,
    (SELECT count(DISTINCT user_id) FROM user_roles WHERE role_id = roles.id) AS user_count
"""
_GROUP: Final = """
    id, version, created_at, updated_at, organization_id, name, description,
    ARRAY(SELECT user_id FROM user_groups WHERE group_id = groups.id ORDER BY 1) AS user_ids,
    ARRAY(SELECT role_id FROM group_roles WHERE group_id = groups.id ORDER BY 1) AS role_ids
"""
_INVITATION: Final = """
    id, version, created_at, updated_at, organization_id, user_id, email, invited_by, sent_count,
    expires_at, accepted_at, revoked_at,
    CASE WHEN accepted_at IS NOT NULL THEN 'accepted' WHEN revoked_at IS NOT NULL THEN 'revoked'
         WHEN expires_at < now() THEN 'expired' ELSE 'pending' END AS status
"""


async def list_users(
    connection: Connection,
    query: PageQuery,
    *,
    deleted: bool,
    is_active: bool | None,
    role_id: UUID | None,
) -> Page[UserView]:
    """People that the caller may see."""
    rows = await connection.fetch(
        f"""
        SELECT {_USER}, count(*) OVER () AS total FROM users
         WHERE (deleted_at IS NOT NULL) = $1 AND ($2::boolean IS NULL OR is_active = $2)
           AND ($3::uuid IS NULL OR EXISTS (SELECT FROM user_roles
                 WHERE user_id = users.id AND user_roles.role_id = $3))
           AND ($4::text IS NULL OR email ILIKE $4 OR first_name || ' ' || last_name ILIKE $4)
         ORDER BY {query.order_by()} LIMIT $5 OFFSET $6
        """,
        deleted,
        is_active,
        role_id,
        query.like(),
        query.limit,
        query.offset,
    )
    return Page[UserView].of_rows(rows, UserView, query)


async def get_user(connection: Connection, user_id: UUID) -> UserView:
    """One person."""
    row = await connection.fetchrow(
        f"SELECT {_USER} FROM users WHERE users.id = $1 AND deleted_at IS NULL", user_id
    )
    if row is None:
        raise NotFound("no such user")
    return UserView.of(row)


async def effective_permissions(connection: Connection, user_id: UUID) -> EffectivePermissions:
    """All that a person may do, each with every reason why."""
    await get_user(connection, user_id)
    rows = await connection.fetch(
        """
        SELECT permissions.id, permissions.name, source AS kind, role_id, roles.name AS role_name,
               group_id, groups.name AS group_name, tenant_id, expires_at
          FROM effective_permissions AS held
          JOIN permissions ON permissions.id = held.permission_id
          LEFT JOIN roles ON roles.id = held.role_id
          LEFT JOIN groups ON groups.id = held.group_id
         WHERE held.user_id = $1
         ORDER BY permissions.name, kind, role_name, group_name
        """,
        user_id,
    )
    sources: dict[tuple[UUID, str], list[PermissionSource]] = {}
    for row in rows:
        if row["tenant_id"] is not None and not counts_in_tenant(row["name"]):
            continue
        sources.setdefault((row["id"], row["name"]), []).append(PermissionSource.of(row))
    return EffectivePermissions(
        user_id=user_id,
        data=[
            EffectivePermission(id=permission_id, name=name, sources=found)
            for (permission_id, name), found in sources.items()
        ],
    )


async def list_permissions(connection: Connection) -> list[PermissionView]:
    """Everything that can be allowed."""
    rows = await connection.fetch(
        "SELECT id, name, resource, action, description FROM permissions ORDER BY name"
    )
    return [PermissionView.of(row) for row in rows]


async def list_roles(connection: Connection, query: PageQuery) -> Page[RoleView]:
    """Roles of the system, and those of the caller's organization."""
    rows = await connection.fetch(
        f"""
        SELECT {_ROLE}, count(*) OVER () AS total FROM roles
         WHERE $1::text IS NULL OR name ILIKE $1
         ORDER BY {query.order_by()} LIMIT $2 OFFSET $3
        """,
        query.like(),
        query.limit,
        query.offset,
    )
    return Page[RoleView].of_rows(rows, RoleView, query)


async def get_role(connection: Connection, role_id: UUID) -> RoleView:
    """One role."""
    row = await connection.fetchrow(f"SELECT {_ROLE} FROM roles WHERE id = $1", role_id)
    return RoleView.of(_found(row, "role"))


async def list_groups(connection: Connection, query: PageQuery) -> Page[GroupView]:
    """Groups that the caller may see."""
    rows = await connection.fetch(
        f"""
        SELECT {_GROUP}, count(*) OVER () AS total FROM groups
         WHERE $1::text IS NULL OR name ILIKE $1
         ORDER BY {query.order_by()} LIMIT $2 OFFSET $3
        """,
        query.like(),
        query.limit,
        query.offset,
    )
    return Page[GroupView].of_rows(rows, GroupView, query)


async def get_group(connection: Connection, group_id: UUID) -> GroupView:
    """One group."""
    row = await connection.fetchrow(f"SELECT {_GROUP} FROM groups WHERE id = $1", group_id)
    return GroupView.of(_found(row, "group"))


async def list_invitations(connection: Connection, query: PageQuery) -> Page[InvitationView]:
    """Invitations that the caller may see."""
    rows = await connection.fetch(
        f"""
        SELECT {_INVITATION}, count(*) OVER () AS total FROM invitations
         WHERE $1::text IS NULL OR email ILIKE $1
         ORDER BY {query.order_by()} LIMIT $2 OFFSET $3
        """,
        query.like(),
        query.limit,
        query.offset,
    )
    return Page[InvitationView].of_rows(rows, InvitationView, query)


async def get_invitation(connection: Connection, invitation_id: UUID) -> InvitationView:
    """One invitation."""
    row = await connection.fetchrow(
        f"SELECT {_INVITATION} FROM invitations WHERE id = $1", invitation_id
    )
    return InvitationView.of(_found(row, "invitation"))


async def get_invitation_of(connection: Connection, user_id: UUID) -> InvitationView:
    """The newest invitation of a person."""
    row = await connection.fetchrow(
        f"""
        SELECT {_INVITATION} FROM invitations WHERE user_id = $1
         ORDER BY created_at DESC, id LIMIT 1
        """,
        user_id,
    )
    return InvitationView.of(_found(row, "invitation"))


def _found(row: Any, kind: str) -> Any:
    if row is None:
        raise NotFound(f"no such {kind}")
    return row
