"""Routes of regions, organizations, workspaces and tenants."""

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field

from control.core.commands import tenancy as commands
from control.core.queries import tenancy as queries
from control.core.queries.views import OrganizationView, RegionView, TenantView, WorkspaceView
from shared.http.call import Call
from shared.http.models import Body, Description, Name, Page, PageQuery, Slug, Text
from shared.http.routes import Routes

routes = Routes(
    "Tenancy", "Regions, organizations, workspaces and tenants: where telemetry belongs."
)


class PlaceQuery(PageQuery):
    """A page of places."""

    SORTS: ClassVar[Sequence[str]] = ("createdAt", "updatedAt", "name")


class ErasableQuery(PlaceQuery):
    """A page of places that can be deleted and restored."""

    deleted: bool = Field(False, description="those that were deleted, instead of the others")


class WorkspaceQuery(ErasableQuery):
    """A page of workspaces."""

    organization_id: UUID | None = None


class TenantQuery(ErasableQuery):
    """A page of tenants."""

    workspace_id: UUID | None = None


class NewRegion(Body):
    """A region to be."""

    name: Name = Field(examples=["Asia Pacific (Jakarta)"])
    code: Slug = Field(examples=["aps3"])
    description: Description = ""
    data_location: Text = Field("", max_length=200, examples=["Jakarta, Indonesia"])


class RegionChange(Body):
    """What shall be different."""

    name: Name | None = None
    description: Description | None = None
    data_location: Text | None = Field(None, max_length=200)
    is_active: bool | None = None


class NewOrganization(Body):
    """An organization to be."""

    region_id: UUID
    name: Name = Field(examples=["Example Inc."])
    slug: Slug = Field(examples=["example"])


class OrganizationChange(Body):
    """What shall be different."""

    name: Name | None = None
    slug: Slug | None = None
    settings: dict[str, Any] | None = None


class NewWorkspace(Body):
    """A workspace to be."""

    name: Name = Field(examples=["Shop"])
    slug: Slug = Field(examples=["shop"])
    description: Description = ""
    organization_id: UUID | None = Field(None, description="yours, unless you run the platform")


class WorkspaceChange(Body):
    """What shall be different."""

    name: Name | None = None
    slug: Slug | None = None
    description: Description | None = None
    datasource_config: dict[str, Any] | None = None


class NewTenant(Body):
    """A tenant to be."""

    workspace_id: UUID
    name: Name = Field(examples=["Production"])
    slug: Slug
    domain: Text = Field("", max_length=253, examples=["shop.example.com"])


class TenantChange(Body):
    """What shall be different."""

    name: Name | None = None
    slug: Slug | None = None
    domain: Text | None = Field(None, max_length=253)
    settings: dict[str, Any] | None = None


@routes.get("/regions", permission="region:read", query=PlaceQuery, answer=Page[RegionView])
async def list_regions(call: Call, query: PlaceQuery) -> Page[RegionView]:
    """List regions."""
    async with call.read() as connection:
        return await queries.list_regions(connection, query)


@routes.post(
    "/regions",
    permission="region:write",
    body=NewRegion,
    answer=RegionView,
    status=201,
    is_versioned=True,
)
async def create_region(call: Call, body: NewRegion) -> RegionView:
    """Create a region."""
    region_id = await call.execute(commands.CreateRegion(**dict(body)))
    async with call.read() as connection:
        return await queries.get_region(connection, region_id)


@routes.get("/regions/{id}", permission="region:read", answer=RegionView, is_versioned=True)
async def get_region(call: Call) -> RegionView:
    """Get a region."""
    async with call.read() as connection:
        return await queries.get_region(connection, call.id())


@routes.patch(
    "/regions/{id}",
    permission="region:write",
    body=RegionChange,
    answer=RegionView,
    is_versioned=True,
)
async def change_region(call: Call, body: RegionChange) -> RegionView:
    """Change a region; only what is given."""
    await call.execute(
        commands.ChangeRegion(id=call.id(), expected_version=call.expected_version, **dict(body))
    )
    return await get_region(call)


@routes.delete("/regions/{id}", permission="region:delete", is_versioned=True)
async def delete_region(call: Call) -> None:
    """Delete a region that no organization is in."""
    await call.execute(commands.DeleteRegion(id=call.id(), expected_version=call.expected_version))


@routes.get(
    "/organizations",
    permission="organization:read",
    query=ErasableQuery,
    answer=Page[OrganizationView],
)
async def list_organizations(call: Call, query: ErasableQuery) -> Page[OrganizationView]:
    """List organizations: your own, or all if you run the platform."""
    async with call.read() as connection:
        return await queries.list_organizations(connection, query, deleted=query.deleted)


@routes.post(
    "/organizations",
    permission="platform:write",
    body=NewOrganization,
    answer=OrganizationView,
    status=201,
    is_versioned=True,
    errors=(404,),
)
async def create_organization(call: Call, body: NewOrganization) -> OrganizationView:
    """Create an organization; invite its first administrator next."""
    organization_id = await call.execute(commands.CreateOrganization(**dict(body)))
    async with call.read() as connection:
        return await queries.get_organization(connection, organization_id)


@routes.get(
    "/organizations/{id}",
    permission="organization:read",
    answer=OrganizationView,
    is_versioned=True,
)
async def get_organization(call: Call) -> OrganizationView:
    """Get an organization."""
    async with call.read() as connection:
        return await queries.get_organization(connection, call.id())


@routes.get(
    "/organizations/{id}/workspaces",
    permission="workspace:read",
    query=ErasableQuery,
    answer=Page[WorkspaceView],
)
async def list_workspaces_of_organization(call: Call, query: ErasableQuery) -> Page[WorkspaceView]:
    """List the workspaces of an organization."""
    async with call.read() as connection:
        await queries.get_organization(connection, call.id())
        return await queries.list_workspaces(connection, call.id(), query, deleted=query.deleted)


@routes.get(
    "/workspaces",
    permission="workspace:read",
    query=WorkspaceQuery,
    answer=Page[WorkspaceView],
)
async def list_workspaces(call: Call, query: WorkspaceQuery) -> Page[WorkspaceView]:
    """List workspaces."""
    async with call.read() as connection:
        return await queries.list_workspaces(
            connection, query.organization_id, query, deleted=query.deleted
        )


@routes.post(
    "/workspaces",
    permission="workspace:write",
    body=NewWorkspace,
    answer=WorkspaceView,
    status=201,
    is_versioned=True,
    errors=(404,),
)
async def create_workspace(call: Call, body: NewWorkspace) -> WorkspaceView:
    """Create a workspace."""
    workspace_id = await call.execute(commands.CreateWorkspace(**dict(body)))
    async with call.read() as connection:
        return await queries.get_workspace(connection, workspace_id)


@routes.get(
    "/workspaces/{id}", permission="workspace:read", answer=WorkspaceView, is_versioned=True
)
async def get_workspace(call: Call) -> WorkspaceView:
    """Get a workspace."""
    async with call.read() as connection:
        return await queries.get_workspace(connection, call.id())


@routes.get(
    "/workspaces/{id}/tenants",
    permission="tenant:read",
    query=ErasableQuery,
    answer=Page[TenantView],
)
async def list_tenants_of_workspace(call: Call, query: ErasableQuery) -> Page[TenantView]:
    """List the tenants of a workspace."""
    async with call.read() as connection:
        await queries.get_workspace(connection, call.id())
        return await queries.list_tenants(connection, call.id(), query, deleted=query.deleted)


@routes.get("/tenants", permission="tenant:read", query=TenantQuery, answer=Page[TenantView])
async def list_tenants(call: Call, query: TenantQuery) -> Page[TenantView]:
    """List tenants."""
    async with call.read() as connection:
        return await queries.list_tenants(
            connection, query.workspace_id, query, deleted=query.deleted
        )


@routes.post(
    "/tenants",
    permission="tenant:write",
    body=NewTenant,
    answer=TenantView,
    status=201,
    is_versioned=True,
    errors=(404,),
)
async def create_tenant(call: Call, body: NewTenant) -> TenantView:
    """Create a tenant in a workspace."""
    tenant_id = await call.execute(commands.CreateTenant(**dict(body)))
    async with call.read() as connection:
        return await queries.get_tenant(connection, tenant_id)


@routes.get("/tenants/{id}", permission="tenant:read", answer=TenantView, is_versioned=True)
async def get_tenant(call: Call) -> TenantView:
    """Get a tenant."""
    async with call.read() as connection:
        return await queries.get_tenant(connection, call.id())


def _edits(kind: str, answer: Any, change: Any, get: Any) -> None:
    """The routes that organizations, workspaces and tenants have alike."""
    Kind = kind.capitalize()  # noqa: N806 - a part of class names
    path = f"/{kind}s/{{id}}"

    def edit(verb: str, /, **values: Any) -> Any:
        return getattr(commands, f"{verb}{Kind}")(**values)

    async def change_it(call: Call, body: Any) -> Any:
        await call.execute(
            edit("Change", id=call.id(), expected_version=call.expected_version, **dict(body))
        )
        return await get(call)

    async def activate(call: Call) -> Any:
        await call.execute(
            edit("Switch", id=call.id(), expected_version=call.expected_version, is_active=True)
        )
        return await get(call)

    async def deactivate(call: Call) -> Any:
        await call.execute(
            edit("Switch", id=call.id(), expected_version=call.expected_version, is_active=False)
        )
        return await get(call)

    async def delete(call: Call) -> None:
        await call.execute(edit("Delete", id=call.id(), expected_version=call.expected_version))

    async def restore(call: Call) -> Any:
        await call.execute(edit("Restore", id=call.id()))
        return await get(call)

    async def purge(call: Call) -> None:
        await call.execute(edit("Purge", id=call.id()))

    of_all: dict[str, Any] = {"answer": answer, "is_versioned": True}
    switching = "organization:delete" if kind == "organization" else f"{kind}:write"
    write, gone = f"{kind}:write", f"{kind}:delete"
    for handler, verb, text, declare in (
        (change_it, "change", "Change {}; only what is given.",
         routes.patch(path, permission=write, body=change, **of_all)),
        (activate, "activate", "Let people use {} again.",
         routes.post(f"{path}/activate", permission=switching, **of_all)),
        (deactivate, "deactivate", "Keep {}, but let nobody use it.",
         routes.post(f"{path}/deactivate", permission=switching, **of_all)),
        (delete, "delete", "Set {} aside; it can be restored for 90 days.",
         routes.delete(path, permission=gone, is_versioned=True)),
        (restore, "restore", "Take back {} that was deleted.",
         routes.post(f"{path}/restore", permission=gone, **of_all)),
        (purge, "purge", "Let {} that was deleted go for good, with all that belongs to it.",
         routes.post(f"{path}/purge", permission=gone, status=204)),
    ):  # fmt: skip
        handler.__name__ = f"{verb}_{kind}"
        handler.__doc__ = text.format(f"{'an' if kind == 'organization' else 'a'} {kind}")
        declare(handler)


_edits("organization", OrganizationView, OrganizationChange, get_organization)
_edits("workspace", WorkspaceView, WorkspaceChange, get_workspace)
_edits("tenant", TenantView, TenantChange, get_tenant)
