"""The demo organization: one person of each role, and nothing that visitors do there stays.

It is made by `telemetryflow up --demo`. Every six hours the worker purges it, with all that hangs
on it, and makes it again: the same people with the same passwords, under new ids.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from control.app import Control
from control.auth.repository import AuthRepositories
from control.core.domain.permissions import ADMINISTRATOR, DEMO, DEVELOPER, TIERS, VIEWER
from control.core.domain.roles import Group
from control.core.domain.tenancy import Organization
from control.core.events import DemoReset
from control.core.repository.core import CoreRepositories
from control.first_start import NewPerson, make_organization, make_person, new_password
from shared.messaging.events import utc_now
from shared.postgres.connection import Connection
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM

RESET_EVERY: Final = timedelta(hours=6)
_LOCK: Final = 0x7E1E_DE0
_DOMAIN: Final = "telemetryflow.id"
_SLUG: Final = "demo"
_PEOPLE: Final = {
    f"{tier.name.split()[-1].lower()}.telemetryflow@{_DOMAIN}": tier
    for tier in (ADMINISTRATOR, DEVELOPER, VIEWER, DEMO)
}


async def make_demo(control: Control) -> list[NewPerson]:
    """Make the demo organization; its people, none when there is one already."""
    async with control.database.begin(PLATFORM) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if await connection.fetchval("SELECT count(*) FROM organizations WHERE is_demo"):
            return []
        passwords = {email: new_password() for email in _PEOPLE}
        hashes = {email: await control.kit.hasher.hash(text) for email, text in passwords.items()}
        core, auth = CoreRepositories(connection), AuthRepositories(connection)
        await _fill(core, auth, connection, hashes, now=utc_now())
        await append_to_outbox(connection, [*core.events, *auth.events])
    return [NewPerson(email, passwords[email], tier.name) for email, tier in _PEOPLE.items()]


async def reset_demo(control: Control, *, now: datetime) -> bool:
    """Begin anew when that is due; whether it was. Nothing is touched outside of the demo.

    A demo that somebody switched off or deleted stays so.
    """
    async with control.database.begin(PLATFORM) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        demo = await connection.fetchrow(
            """
            SELECT organization_id, password_hashes
              FROM demos JOIN organizations ON organizations.id = organization_id
             WHERE reset_at <= $1 AND is_active AND deleted_at IS NULL
            """,
            now - RESET_EVERY,
        )
        if demo is None:
            return False
        core, auth = CoreRepositories(connection), AuthRepositories(connection)
        await _purge(core, auth, await core.organizations.get(demo["organization_id"]), now=now)
        made = await _fill(core, auth, connection, demo["password_hashes"], now=now)
        events = [*core.events, *auth.events, DemoReset(aggregate_id=made, organization_id=made)]
        await append_to_outbox(connection, events)
    return True


async def _purge(
    core: CoreRepositories, auth: AuthRepositories, organization: Organization, *, now: datetime
) -> None:
    # At once, and not when the event arrives: the same addresses are taken again below.
    for user_id in await core.users.purge_all(organization.id):
        await auth.accounts.remove(user_id)
    for tenant in await core.tenants.within(organization):
        tenant.delete(now=now)
        tenant.purge()
        await core.tenants.remove(tenant)
    await core.organizations.remove(organization)


async def _fill(
    core: CoreRepositories,
    auth: AuthRepositories,
    connection: Connection,
    password_hashes: Mapping[str, str],
    *,
    now: datetime,
) -> UUID:
    region_id = await connection.fetchval("SELECT id FROM regions ORDER BY created_at LIMIT 1")
    organization, tenant = await make_organization(
        core,
        region_id,
        name="Demo",
        slug=_SLUG,
        workspace=_SLUG,
        tenant=_SLUG,
        is_demo=True,
    )
    for email, tier in _PEOPLE.items():
        await make_person(
            core,
            auth,
            organization,
            tenant,
            email=email,
            name=tier.name.split()[-1],
            tier=tier,
            password_hash=password_hashes[email],
            must_change=False,
        )
    for tier in TIERS[1:]:
        group = Group.create(
            organization_id=organization.id,
            name=f"{tier.name}s",
            description=f"People who are {tier.name}",
        )
        group.change(role_ids={tier.id})
        await core.groups.save(group)
    await connection.execute(
        "INSERT INTO demos (organization_id, password_hashes, reset_at) VALUES ($1, $2, $3)",
        organization.id,
        dict(password_hashes),
        now,
    )
    return organization.id
