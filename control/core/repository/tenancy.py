"""Regions, organizations, workspaces and tenants as rows.

`get` locks the row, so that two commands on one aggregate run one after the other.
"""

from typing import Any
from uuid import UUID

from control.core.domain.tenancy import Organization, Region, Tenant, Workspace
from shared.domain import Aggregate
from shared.errors import Conflict, NotFound
from shared.messaging.events import Event
from shared.postgres.connection import Connection
from shared.postgres.rows import save_row


class Rows:
    """What the repositories of core have in common: a connection, and where events go."""

    def __init__(self, connection: Connection, events: list[Event]) -> None:
        self._connection = connection
        self._events = events

    async def _store(self, table: str, aggregate: Aggregate, columns: dict[str, Any]) -> None:
        await save_row(self._connection, table, aggregate, columns)
        self._events += aggregate.release_events()


class Regions(Rows):
    """Repository of regions."""

    async def get(self, region_id: UUID) -> Region:
        """The region; NotFound when there is none."""
        row = await self._connection.fetchrow(
            """
            SELECT id, version, name, code, description, data_location, is_active
              FROM regions WHERE id = $1 FOR UPDATE
            """,
            region_id,
        )
        return Region(**found(row, "region"))

    async def save(self, region: Region) -> None:
        """Insert or update; Conflict when the code is taken."""
        columns = {
            "name": region.name,
            "code": region.code,
            "description": region.description,
            "data_location": region.data_location,
            "is_active": region.is_active,
        }
        await self._store("regions", region, columns)

    async def remove(self, region: Region) -> None:
        """Delete the row; Conflict while organizations are in it."""
        used = await self._connection.fetchval(
            "SELECT count(*) FROM organizations WHERE region_id = $1", region.id
        )
        if used:
            raise Conflict(f"{used} organizations are in this region: move or purge them first")
        await self._connection.execute("DELETE FROM regions WHERE id = $1", region.id)
        self._events += region.release_events()


class Organizations(Rows):
    """Repository of organizations."""

    async def get(self, organization_id: UUID, *, deleted: bool = False) -> Organization:
        """The organization; NotFound when there is none; *deleted* finds those set aside too."""
        row = await self._connection.fetchrow(
            """
            SELECT id, version, region_id, name, slug, settings, is_active, is_demo, deleted_at
              FROM organizations WHERE id = $1 AND (deleted_at IS NULL OR $2) FOR UPDATE
            """,
            organization_id,
            deleted,
        )
        return Organization(**found(row, "organization"))

    async def save(self, organization: Organization) -> None:
        """Insert or update; Conflict when the slug is taken or the region unknown."""
        columns = {
            "region_id": organization.region_id,
            "name": organization.name,
            "slug": organization.slug,
            "settings": organization.settings,
            "is_active": organization.is_active,
            "is_demo": organization.is_demo,
            "deleted_at": organization.deleted_at,
        }
        await self._store("organizations", organization, columns)

    async def remove(self, organization: Organization) -> None:
        """Delete the row, and all that belongs to it."""
        await self._connection.execute("DELETE FROM organizations WHERE id = $1", organization.id)
        self._events += organization.release_events()


class Workspaces(Rows):
    """Repository of workspaces."""

    async def get(self, workspace_id: UUID, *, deleted: bool = False) -> Workspace:
        """The workspace; NotFound when there is none; *deleted* finds those set aside too."""
        row = await self._connection.fetchrow(
            """
            SELECT id, version, organization_id, name, slug, description, datasource_config,
                   is_active, deleted_at
              FROM workspaces WHERE id = $1 AND (deleted_at IS NULL OR $2) FOR UPDATE
            """,
            workspace_id,
            deleted,
        )
        return Workspace(**found(row, "workspace"))

    async def save(self, workspace: Workspace) -> None:
        """Insert or update; Conflict when the slug is taken."""
        columns = {
            "organization_id": workspace.organization_id,
            "name": workspace.name,
            "slug": workspace.slug,
            "description": workspace.description,
            "datasource_config": workspace.datasource_config,
            "is_active": workspace.is_active,
            "deleted_at": workspace.deleted_at,
        }
        await self._store("workspaces", workspace, columns)

    async def remove(self, workspace: Workspace) -> None:
        """Delete the row, and its tenants."""
        await self._connection.execute("DELETE FROM workspaces WHERE id = $1", workspace.id)
        self._events += workspace.release_events()


class Tenants(Rows):
    """Repository of tenants."""

    async def get(self, tenant_id: UUID, *, deleted: bool = False) -> Tenant:
        """The tenant; NotFound when there is none; *deleted* finds those set aside too."""
        row = await self._connection.fetchrow(
            """
            SELECT id, version, organization_id, workspace_id, name, slug, domain, settings,
                   is_active, deleted_at
              FROM tenants WHERE id = $1 AND (deleted_at IS NULL OR $2) FOR UPDATE
            """,
            tenant_id,
            deleted,
        )
        return Tenant(**found(row, "tenant"))

    async def within(self, place: Organization | Workspace | Tenant) -> list[Tenant]:
        """All tenants of a place, also those set aside; of a tenant, itself."""
        ids = await self._connection.fetch(
            """
            SELECT id FROM tenants WHERE $1 IN (id, workspace_id, organization_id)
             ORDER BY id FOR UPDATE
            """,
            place.id,
        )
        return [await self.get(row["id"], deleted=True) for row in ids]

    async def save(self, tenant: Tenant) -> None:
        """Insert or update; Conflict when the slug is taken."""
        columns = {
            "organization_id": tenant.organization_id,
            "workspace_id": tenant.workspace_id,
            "name": tenant.name,
            "slug": tenant.slug,
            "domain": tenant.domain,
            "settings": tenant.settings,
            "is_active": tenant.is_active,
            "deleted_at": tenant.deleted_at,
        }
        await self._store("tenants", tenant, columns)

    async def remove(self, tenant: Tenant) -> None:
        """Delete the row."""
        await self._connection.execute("DELETE FROM tenants WHERE id = $1", tenant.id)
        self._events += tenant.release_events()


def found(row: Any, kind: str) -> dict[str, Any]:
    if row is None:
        raise NotFound(f"no such {kind}")
    return dict(row)
