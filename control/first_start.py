"""What a new installation begins with: an organization, a tenant, and who administers them."""

import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from control.app import Control
from control.auth.domain import Account
from control.auth.repository import AuthRepositories
from control.core.domain.people import Assignment, User
from control.core.domain.permissions import SUPER_ADMINISTRATOR as SUPER
from control.core.domain.permissions import Tier
from control.core.domain.tenancy import Organization, Region, Tenant, Workspace
from control.core.repository.core import CoreRepositories
from shared.messaging.events import utc_now
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM

_FIRST_START_LOCK: Final = 0x7E1E_F13


@dataclass(frozen=True, slots=True)
class NewPerson:
    """A person who was made, with the password that is shown once."""

    email: str
    password: str
    role: str


async def begin(control: Control) -> list[NewPerson]:
    """Make the first organization; who administers it, nobody when there was one before."""
    people = []
    async with control.database.begin(PLATFORM) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _FIRST_START_LOCK)
        core = CoreRepositories(connection)
        auth = AuthRepositories(connection)
        if not await connection.fetchval("SELECT count(*) FROM organizations"):
            people.append(await _first_organization(control, core, auth))
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
    organization, tenant = await make_organization(
        core,
        region.id,
        name=slug.capitalize(),
        slug=slug,
        workspace=settings.default_workspace_code.lower(),
        tenant=settings.default_tenant_code.lower(),
    )
    await core.call_default(tenant.id)
    password = new_password()
    await make_person(
        core,
        auth,
        organization,
        tenant,
        email=settings.admin_email,
        name="Admin",
        tier=SUPER,
        password_hash=await control.kit.hasher.hash(password),
        must_change=True,
    )
    return NewPerson(settings.admin_email, password, SUPER.name)


async def make_organization(
    core: CoreRepositories,
    region_id: UUID,
    *,
    name: str,
    slug: str,
    workspace: str,
    tenant: str,
    is_demo: bool = False,
) -> tuple[Organization, Tenant]:
    """An organization with one workspace and one tenant; names follow from the slugs."""
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


def new_password() -> str:
    """One that satisfies every policy, to be shown once."""
    return f"Tf1-{secrets.token_urlsafe(15)}"


async def make_person(
    core: CoreRepositories,
    auth: AuthRepositories,
    organization: Organization,
    tenant: Tenant,
    *,
    email: str,
    name: str,
    tier: Tier,
    password_hash: str,
    must_change: bool,
) -> None:
    """A person of one tier who can sign in."""
    now = utc_now()
    user = User.create(
        organization_id=organization.id,
        tenant_id=tenant.id,
        email=email,
        first_name=name,
        last_name=organization.name,
        is_email_verified=True,
    )
    user.assign_role(await core.roles.get(tier.id), Assignment(tier.id), now=now)
    await core.users.save(user, by=None)
    account = Account(
        id=user.id,
        organization_id=organization.id,
        email=user.email,
        first_name=name,
        last_name=organization.name,
        password_hash=password_hash,
        password_changed_at=now,
        must_change_password=must_change,
        email_verified_at=now,
    )
    await auth.accounts.save(account)
