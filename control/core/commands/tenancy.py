"""Commands about regions, organizations, workspaces and tenants."""

from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from control.core.commands.guards import organization_for
from control.core.domain.tenancy import Organization, Region, Tenant, Workspace
from control.core.repository.core import CoreRepositories
from shared.caller import Caller
from shared.messaging.commands import Command, CommandHandlers, Handler
from shared.messaging.events import utc_now
from shared.postgres.database import UnitOfWork

Work = UnitOfWork[CoreRepositories]


@dataclass(frozen=True, kw_only=True)
class Edit(Command[None]):
    """A change of one place; with *expected_version* only if nobody changed it since."""

    id: UUID
    expected_version: int | None = None


@dataclass(frozen=True, kw_only=True)
class CreateRegion(Command[UUID]):
    """A new region."""

    name: str
    code: str
    description: str = ""
    data_location: str = ""


async def create_region(command: CreateRegion, by: Caller, work: Work) -> UUID:
    """Its id."""
    region = Region.create(
        name=command.name,
        code=command.code,
        description=command.description,
        data_location=command.data_location,
    )
    async with work.begin(by.scope) as core:
        await core.regions.save(region)
    return region.id


@dataclass(frozen=True, kw_only=True)
class ChangeRegion(Edit):
    """New values for what is not None."""

    name: str | None = None
    description: str | None = None
    data_location: str | None = None
    is_active: bool | None = None


async def change_region(command: ChangeRegion, by: Caller, work: Work) -> None:
    """Change what is given."""
    async with work.begin(by.scope) as core:
        region = await core.regions.get(command.id)
        region.require_version(command.expected_version)
        region.change(
            name=command.name,
            description=command.description,
            data_location=command.data_location,
            is_active=command.is_active,
        )
        await core.regions.save(region)


class DeleteRegion(Edit):
    """Remove a region that no organization is in."""


async def delete_region(command: DeleteRegion, by: Caller, work: Work) -> None:
    """Remove it; Conflict while it is used."""
    async with work.begin(by.scope) as core:
        region = await core.regions.get(command.id)
        region.require_version(command.expected_version)
        region.delete()
        await core.regions.remove(region)


@dataclass(frozen=True, kw_only=True)
class CreateOrganization(Command[UUID]):
    """A new organization, without people yet."""

    region_id: UUID
    name: str
    slug: str
    is_demo: bool = False


async def create_organization(command: CreateOrganization, by: Caller, work: Work) -> UUID:
    """Its id."""
    organization = Organization.create(
        region_id=command.region_id,
        name=command.name,
        slug=command.slug,
        is_demo=command.is_demo,
    )
    async with work.begin(by.scope) as core:
        await core.regions.get(command.region_id)
        await core.organizations.save(organization)
    return organization.id


@dataclass(frozen=True, kw_only=True)
class ChangeOrganization(Edit):
    """New values for what is not None."""

    name: str | None = None
    slug: str | None = None
    settings: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class CreateWorkspace(Command[UUID]):
    """A new workspace of an organization (default: the caller's)."""

    organization_id: UUID | None
    name: str
    slug: str
    description: str = ""


async def create_workspace(command: CreateWorkspace, by: Caller, work: Work) -> UUID:
    """Its id."""
    organization_id = organization_for(by, command.organization_id)
    workspace = Workspace.create(
        organization_id=organization_id,
        name=command.name,
        slug=command.slug,
        description=command.description,
    )
    async with work.begin(by.scope) as core:
        await core.organizations.get(organization_id)
        await core.workspaces.save(workspace)
    return workspace.id


@dataclass(frozen=True, kw_only=True)
class ChangeWorkspace(Edit):
    """New values for what is not None."""

    name: str | None = None
    slug: str | None = None
    description: str | None = None
    datasource_config: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class CreateTenant(Command[UUID]):
    """A new tenant of a workspace."""

    workspace_id: UUID
    name: str
    slug: str
    domain: str = ""


async def create_tenant(command: CreateTenant, by: Caller, work: Work) -> UUID:
    """Its id."""
    async with work.begin(by.scope) as core:
        workspace = await core.workspaces.get(command.workspace_id)
        tenant = Tenant.create(
            organization_id=workspace.organization_id,
            workspace_id=workspace.id,
            name=command.name,
            slug=command.slug,
            domain=command.domain,
        )
        await core.tenants.save(tenant)
        await core.access_changed(workspace.organization_id)
    return tenant.id


@dataclass(frozen=True, kw_only=True)
class ChangeTenant(Edit):
    """New values for what is not None."""

    name: str | None = None
    slug: str | None = None
    domain: str | None = None
    settings: dict[str, Any] | None = None


# What organizations, workspaces and tenants have in common.


@dataclass(frozen=True, kw_only=True)
class Switch(Edit):
    """Let people use a place, or keep it and let nobody."""

    is_active: bool


class SwitchOrganization(Switch):
    """Of an organization: its people are kept out at their next request."""


class SwitchWorkspace(Switch):
    """Of a workspace, and so of its tenants."""


class SwitchTenant(Switch):
    """Of a tenant."""


class DeleteOrganization(Edit):
    """Set it aside; it can be restored."""


class DeleteWorkspace(Edit):
    """Set it aside with its tenants; it can be restored."""


class DeleteTenant(Edit):
    """Set it aside; it can be restored."""


class RestoreOrganization(Edit):
    """Take back what was deleted."""


class RestoreWorkspace(Edit):
    """Take back what was deleted."""


class RestoreTenant(Edit):
    """Take back what was deleted."""


class PurgeOrganization(Edit):
    """Let what was deleted go for good, with all that belongs to it."""


class PurgeWorkspace(Edit):
    """Let what was deleted go for good, with its tenants."""


class PurgeTenant(Edit):
    """Let what was deleted go for good."""


async def change_place(command: Any, by: Caller, work: Work, kind: str) -> None:
    """Change what is given of a place; *kind* names the repository."""
    values = {
        name: value
        for name, value in vars(command).items()
        if name not in ("id", "expected_version")
    }
    async with work.begin(by.scope) as core:
        places = getattr(core, kind)
        place = await places.get(command.id)
        place.require_version(command.expected_version)
        if place.change(**values):
            await places.save(place)


async def switch_place(command: Switch, by: Caller, work: Work, kind: str) -> None:
    """Activate or deactivate a place."""
    async with work.begin(by.scope) as core:
        places = getattr(core, kind)
        place = await places.get(command.id)
        place.require_version(command.expected_version)
        place.activate() if command.is_active else place.deactivate()
        await places.save(place)
        await core.access_changed(_organization_of(place))


async def delete_place(command: Edit, by: Caller, work: Work, kind: str) -> None:
    """Set a place aside."""
    async with work.begin(by.scope) as core:
        places = getattr(core, kind)
        place = await places.get(command.id)
        place.require_version(command.expected_version)
        place.delete(now=utc_now())
        await places.save(place)
        await core.access_changed(_organization_of(place))


async def restore_place(command: Edit, by: Caller, work: Work, kind: str) -> None:
    """Take a place back."""
    async with work.begin(by.scope) as core:
        places = getattr(core, kind)
        place = await places.get(command.id, deleted=True)
        place.restore(now=utc_now())
        await places.save(place)
        await core.access_changed(_organization_of(place))


async def purge_place(command: Edit, by: Caller, work: Work, kind: str) -> None:
    """Let a place go for good; its tenants and people tell others to delete what they keep."""
    async with work.begin(by.scope) as core:
        places = getattr(core, kind)
        place = await places.get(command.id, deleted=True)
        place.require_deleted()
        for tenant in await core.tenants.within(place):
            tenant.delete(now=utc_now())
            tenant.purge()
            await core.tenants.remove(tenant)
        if kind == "organizations":
            await core.users.purge_all(place.id)
        if kind != "tenants":
            place.purge()
            await places.remove(place)


def _organization_of(place: Organization | Workspace | Tenant) -> UUID:
    return place.id if isinstance(place, Organization) else place.organization_id


def handlers(work: Work) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    table: dict[type[Command[Any]], Handler] = {
        CreateRegion: Handler(partial(create_region, work=work), "region:write"),
        ChangeRegion: Handler(partial(change_region, work=work), "region:write"),
        DeleteRegion: Handler(partial(delete_region, work=work), "region:delete"),
        CreateOrganization: Handler(partial(create_organization, work=work), "platform:write"),
        CreateWorkspace: Handler(partial(create_workspace, work=work), "workspace:write"),
        CreateTenant: Handler(partial(create_tenant, work=work), "tenant:write"),
    }
    for function, action, commands in (
        (change_place, "write", (ChangeOrganization, ChangeWorkspace, ChangeTenant)),
        (switch_place, "write", (SwitchOrganization, SwitchWorkspace, SwitchTenant)),
        (delete_place, "delete", (DeleteOrganization, DeleteWorkspace, DeleteTenant)),
        (restore_place, "delete", (RestoreOrganization, RestoreWorkspace, RestoreTenant)),
        (purge_place, "delete", (PurgeOrganization, PurgeWorkspace, PurgeTenant)),
    ):
        for command, kind in zip(commands, ("organization", "workspace", "tenant"), strict=True):
            carry_out: Any = partial(function, work=work, kind=f"{kind}s")
            table[command] = Handler(carry_out, f"{kind}:{action}")
    # Who switches an organization off keeps all of its people out, themselves among them.
    table[SwitchOrganization] = Handler(table[SwitchOrganization].function, "organization:delete")
    return table
