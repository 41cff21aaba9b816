"""What a new installation begins with: an organization, a tenant, and who administers them."""

import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from control.app import Control
from control.auth.domain import Account
from control.auth.repository import AuthRepositories
from control.core.domain.people import Assignment, User
from control.core.domain.permissions import ADMINISTRATOR, DEMO, DEVELOPER, TIERS, VIEWER, Tier
from control.core.domain.permissions import SUPER_ADMINISTRATOR as SUPER
from control.core.domain.roles import Group
from control.core.domain.tenancy import Organization, Region, Tenant, Workspace
from control.core.repository.core import CoreRepositories
from shared.messaging.events import utc_now
from shared.postgres.connection import Connection
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM

_FIRST_START_LOCK: Final = 0x7E1E_F13
DEMO_DOMAIN: Final = "telemetryflow.id"
DEMO_SLUG: Final = "demo"


@dataclass(frozen=True, slots=True)
class NewPerson:
    """A person who was made, with the password that is shown once."""

    email: str
    password: str
    role: str


async def begin(control: Control, *, demo: bool) -> list[NewPerson]:
    """Make what is missing; the people who were made, none when there were some before."""
    people = []
    async with control.database.begin(PLATFORM) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _FIRST_START_LOCK)
        core = CoreRepositories(connection)
        auth = AuthRepositories(connection)
        if not await connection.fetchval("SELECT count(*) FROM organizations"):
            people.append(await _first_organization(control, core, auth))
        if demo and not await connection.fetchval(
            "SELECT count(*) FROM organizations WHERE is_demo"
        ):
            people += await _demo_organization(control, core, auth, connection)
        await append_to_outbox(connection, [*core.events, *auth.events])
    return people


async def _first_organization(
    control: Control, core: CoreRepositories, auth: AuthRepositories
) -> NewPerson:
    settings = control.settings
    code = settings.default_region_code.lower()
    region = Region.create(name=code.upper(), code=code, description="", data_location="")
    await core.regions.save(region)
    slug = settings.default_organization.lower()
    organization, tenant = await _organization(
        core,
        region.id,
        name=slug.capitalize(),
        slug=slug,
        workspace=settings.default_workspace_code.lower(),
        tenant=settings.default_tenant_code.lower(),
    )
    return await _person(
        control,
        core,
        auth,
        organization,
        tenant,
        email=settings.admin_email,
        name="Admin",
        tier=SUPER,
        must_change=True,
    )


async def _organization(
    core: CoreRepositories,
    region_id: UUID,
    *,
    name: str,
    slug: str,
    workspace: str,
    tenant: str,
    is_demo: bool = False,
) -> tuple[Organization, Tenant]:
    organization = Organization.create(region_id=region_id, name=name, slug=slug, is_demo=is_demo)
    await core.organizations.save(organization)
    made = Workspace.create(
        organization_id=organization.id, name=workspace.capitalize(), slug=workspace
    )
    await core.workspaces.save(made)
    first = Tenant.create(
        organization_id=organization.id,
        workspace_id=made.id,
        name=tenant.capitalize(),
        slug=tenant,
    )
    await core.tenants.save(first)
    return organization, first


async def _person(
    control: Control,
    core: CoreRepositories,
    auth: AuthRepositories,
    organization: Organization,
    tenant: Tenant,
    *,
    email: str,
    name: str,
    tier: Tier,
    must_change: bool,
) -> NewPerson:
    now = utc_now()
    user = User.create(
        organization_id=organization.id,
        tenant_id=tenant.id,
        email=email,
        first_name=name,
        last_name=organization.name,
        is_email_verified=True,
        is_seeded=True,
    )
    user.assign_role(await core.roles.get(tier.id), Assignment(tier.id), now=now)
    await core.users.save(user, by=None)
    password = f"Tf1-{secrets.token_urlsafe(15)}"
    account = Account(
        id=user.id,
        organization_id=organization.id,
        email=user.email,
        first_name=name,
        last_name=organization.name,
        password_hash=await control.kit.hasher.hash(password),
        password_changed_at=now,
        must_change_password=must_change,
        email_verified_at=now,
    )
    await auth.accounts.save(account)
    return NewPerson(user.email, password, tier.name)


async def _demo_organization(
    control: Control, core: CoreRepositories, auth: AuthRepositories, connection: Connection
) -> list[NewPerson]:
    region_id = await connection.fetchval("SELECT id FROM regions ORDER BY created_at LIMIT 1")
    organization, tenant = await _organization(
        core,
        region_id,
        name="Demo",
        slug=DEMO_SLUG,
        workspace=DEMO_SLUG,
        tenant=DEMO_SLUG,
        is_demo=True,
    )
    people = []
    for tier in (ADMINISTRATOR, DEVELOPER, VIEWER, DEMO):
        name = tier.name.split()[-1]
        people.append(
            await _person(
                control,
                core,
                auth,
                organization,
                tenant,
                email=f"{name.lower()}.telemetryflow@{DEMO_DOMAIN}",
                name=name,
                tier=tier,
                must_change=False,
            )
        )
    for tier in TIERS[1:]:
        group = Group.create(
            organization_id=organization.id,
            name=f"{tier.name}s",
            description=f"People who are {tier.name}",
        )
        group.change(role_ids={tier.id})
        await core.groups.save(group)
    return people
