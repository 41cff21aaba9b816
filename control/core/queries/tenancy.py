"""Reads of regions, organizations, workspaces and tenants."""

from typing import Final
from uuid import UUID

from control.core.queries.views import OrganizationView, RegionView, TenantView, WorkspaceView
from shared.errors import NotFound
from shared.http.models import Page, PageQuery
from shared.postgres.connection import Connection

_REGION: Final = """
    id, version, created_at, updated_at, name, code, description, data_location, is_active
"""
_ORGANIZATION: Final = """
    id, version, created_at, updated_at, region_id, name, slug, settings, is_active, is_demo,
    deleted_at
"""
_WORKSPACE: Final = """
    id, version, created_at, updated_at, organization_id, name, slug, description,
    datasource_config, is_active, deleted_at
"""
_TENANT: Final = """
    id, version, created_at, updated_at, organization_id, workspace_id, name, slug, domain,
    settings, is_active, deleted_at
"""


async def list_regions(connection: Connection, query: PageQuery) -> Page[RegionView]:
    """All regions."""
    rows = await connection.fetch(
        f"""
        SELECT {_REGION}, count(*) OVER () AS total FROM regions
         WHERE $1::text IS NULL OR name ILIKE $1 OR code ILIKE $1
         ORDER BY {query.order_by()} LIMIT $2 OFFSET $3
        """,
        query.like(),
        query.limit,
        query.offset,
    )
    return Page[RegionView].of_rows(rows, RegionView, query)


async def get_region(connection: Connection, region_id: UUID) -> RegionView:
    """One region."""
    row = await connection.fetchrow(f"SELECT {_REGION} FROM regions WHERE id = $1", region_id)
    if row is None:
        raise NotFound("no such region")
    return RegionView.of(row)


async def list_organizations(
    connection: Connection, query: PageQuery, *, deleted: bool
) -> Page[OrganizationView]:
    """Those that the caller may see."""
    rows = await connection.fetch(
        f"""
        SELECT {_ORGANIZATION}, count(*) OVER () AS total FROM organizations
         WHERE (deleted_at IS NOT NULL) = $1
           AND ($2::text IS NULL OR name ILIKE $2 OR slug ILIKE $2)
         ORDER BY {query.order_by()} LIMIT $3 OFFSET $4
        """,
        deleted,
        query.like(),
        query.limit,
        query.offset,
    )
    return Page[OrganizationView].of_rows(rows, OrganizationView, query)


async def get_organization(connection: Connection, organization_id: UUID) -> OrganizationView:
    """One organization."""
    row = await connection.fetchrow(
        f"SELECT {_ORGANIZATION} FROM organizations WHERE id = $1 AND deleted_at IS NULL",
        organization_id,
    )
    if row is None:
        raise NotFound("no such organization")
    return OrganizationView.of(row)


async def list_workspaces(
    connection: Connection, organization_id: UUID | None, query: PageQuery, *, deleted: bool
) -> Page[WorkspaceView]:
    """Of one organization, or of all that the caller may see."""
    rows = await connection.fetch(
        f"""
        SELECT {_WORKSPACE}, count(*) OVER () AS total FROM workspaces
         WHERE ($1::uuid IS NULL OR organization_id = $1) AND (deleted_at IS NOT NULL) = $2
           AND ($3::text IS NULL OR name ILIKE $3 OR slug ILIKE $3)
         ORDER BY {query.order_by()} LIMIT $4 OFFSET $5
        """,
        organization_id,
        deleted,
        query.like(),
        query.limit,
        query.offset,
    )
    return Page[WorkspaceView].of_rows(rows, WorkspaceView, query)


async def get_workspace(connection: Connection, workspace_id: UUID) -> WorkspaceView:
    """One workspace."""
    row = await connection.fetchrow(
        f"SELECT {_WORKSPACE} FROM workspaces WHERE id = $1 AND deleted_at IS NULL", workspace_id
    )
    if row is None:
        raise NotFound("no such workspace")
    return WorkspaceView.of(row)


async def list_tenants(
    connection: Connection, workspace_id: UUID | None, query: PageQuery, *, deleted: bool
) -> Page[TenantView]:
    """Of one workspace, or of all that the caller may see."""
    rows = await connection.fetch(
        f"""
        SELECT {_TENANT}, count(*) OVER () AS total FROM tenants
         WHERE ($1::uuid IS NULL OR workspace_id = $1) AND (deleted_at IS NOT NULL) = $2
           AND ($3::text IS NULL OR name ILIKE $3 OR slug ILIKE $3)
         ORDER BY {query.order_by()} LIMIT $4 OFFSET $5
        """,
        workspace_id,
        deleted,
        query.like(),
        query.limit,
        query.offset,
    )
    return Page[TenantView].of_rows(rows, TenantView, query)


async def get_tenant(connection: Connection, tenant_id: UUID) -> TenantView:
    """One tenant."""
    row = await connection.fetchrow(
        f"SELECT {_TENANT} FROM tenants WHERE id = $1 AND deleted_at IS NULL", tenant_id
    )
    if row is None:
        raise NotFound("no such tenant")
    return TenantView.of(row)
