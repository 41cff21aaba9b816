"""Organizations with people of every tier, for tests."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

from control.core.domain.people import Assignment, User
from control.core.domain.permissions import TIERS
from control.core.domain.tenancy import Organization, Region, Tenant, Workspace
from control.core.repository.core import CoreRepositories
from shared.messaging.events import utc_now
from shared.postgres.database import Database, UnitOfWork
from shared.postgres.scope import PLATFORM


@dataclass
class Seeded:
    """The ids of one organization; *people* by the level of their tier."""

    organization: UUID
    workspace: UUID
    tenant: UUID
    people: dict[int, UUID] = field(default_factory=dict)


async def seed(database: Database, *, region: Region | None = None) -> Seeded:
    """A new organization with a workspace, a tenant and one person of each tier."""
    name = f"org-{uuid4().hex[:8]}"
    async with UnitOfWork(database, CoreRepositories).begin(PLATFORM) as core:
        if region is None:
            region = Region.create(name=name, code=name, description="", data_location="")
            await core.regions.save(region)
        organization = Organization.create(region_id=region.id, name=name, slug=name)
        await core.organizations.save(organization)
        workspace = Workspace.create(organization_id=organization.id, name="Shop", slug="shop")
        await core.workspaces.save(workspace)
        tenant = Tenant.create(
            organization_id=organization.id,
            workspace_id=workspace.id,
            name="Production",
            slug="production",
        )
        await core.tenants.save(tenant)
        seeded = Seeded(organization.id, workspace.id, tenant.id)
        for tier in TIERS:
            user = User.create(
                organization_id=organization.id,
                email=f"tier{tier.level}@{name}.example.com",
                first_name="Tier",
                last_name=str(tier.level),
            )
            user.assign_role(await core.roles.get(tier.id), Assignment(tier.id), now=utc_now())
            await core.users.save(user, by=None)
            seeded.people[tier.level] = user.id
    return seeded
