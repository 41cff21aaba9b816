"""Roles and groups as rows."""

from collections.abc import Sequence
from uuid import UUID

from control.core.domain.permissions import PERMISSIONS
from control.core.domain.roles import Group, Role
from control.core.repository.tenancy import Rows, found


class Roles(Rows):
    """Repository of roles: those of the system, and those of organizations."""

    async def get(self, role_id: UUID) -> Role:
        """The role with its permissions; NotFound when there is none."""
        row = await self._connection.fetchrow(
            """
            SELECT id, version, organization_id, name, level, description, is_system,
                   ARRAY(SELECT permissions.name FROM role_permissions
                           JOIN permissions ON permissions.id = permission_id
                          WHERE role_id = roles.id) AS permissions
              FROM roles WHERE id = $1
            """,
            role_id,
        )
        values = found(row, "role")
        return Role(**values | {"permissions": frozenset(values["permissions"])})

    async def get_all(self, role_ids: Sequence[UUID]) -> list[Role]:
        """Several roles; NotFound when one is missing."""
        return [await self.get(role_id) for role_id in sorted(set(role_ids))]

    async def save(self, role: Role) -> None:
        """Insert or update; Conflict when the name is taken."""
        columns = {
            "organization_id": role.organization_id,
            "name": role.name,
            "level": role.level,
            "description": role.description,
            "is_system": role.is_system,
        }
        await self._store("roles", role, columns)
        wanted = [PERMISSIONS[name].id for name in sorted(role.permissions)]
        await self._connection.execute(
            "DELETE FROM role_permissions WHERE role_id = $1 AND permission_id <> ALL($2)",
            role.id,
            wanted,
        )
        await self._connection.executemany(
            """
            INSERT INTO role_permissions (role_id, permission_id, organization_id)
            VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
            """,
            [(role.id, permission_id, role.organization_id) for permission_id in wanted],
        )

    async def remove(self, role: Role) -> None:
        """Delete the row, and take the role from everybody."""
        await self._connection.execute("DELETE FROM roles WHERE id = $1", role.id)
        self._events += role.release_events()


class Groups(Rows):
    """Repository of groups, with their people and roles."""

    async def get(self, group_id: UUID) -> Group:
        """The group; NotFound when there is none."""
        row = await self._connection.fetchrow(
            """
            SELECT id, version, organization_id, name, description,
                   ARRAY(SELECT user_id FROM user_groups WHERE group_id = groups.id) AS user_ids,
                   ARRAY(SELECT role_id FROM group_roles WHERE group_id = groups.id) AS role_ids
              FROM groups WHERE id = $1 FOR UPDATE
            """,
            group_id,
        )
        values = found(row, "group")
        return Group(
            **values | {"user_ids": set(values["user_ids"]), "role_ids": set(values["role_ids"])}
        )

    async def save(self, group: Group) -> None:
        """Insert or update; Conflict when the name is taken."""
        columns = {
            "organization_id": group.organization_id,
            "name": group.name,
            "description": group.description,
        }
        await self._store("groups", group, columns)
        for table, column, ids in (
            ("user_groups", "user_id", group.user_ids),
            ("group_roles", "role_id", group.role_ids),
        ):
            await self._connection.execute(
                f"DELETE FROM {table} WHERE group_id = $1 AND {column} <> ALL($2)",  # noqa: S608 - names of our own
                group.id,
                list(ids),
            )
            await self._connection.executemany(
                f"INSERT INTO {table} (organization_id, group_id, {column}) VALUES ($1, $2, $3) "  # noqa: S608 - names of our own
                "ON CONFLICT DO NOTHING",
                [(group.organization_id, group.id, one) for one in ids],
            )

    async def remove(self, group: Group) -> None:
        """Delete the row."""
        await self._connection.execute("DELETE FROM groups WHERE id = $1", group.id)
        self._events += group.release_events()
