"""How core reacts to what auth tells."""

from control.auth.events import AccountRegistered, AuthLogin, EmailVerified, InvitationRedeemed
from control.core.domain.people import Assignment, User
from control.core.domain.permissions import ADMINISTRATOR
from control.core.domain.tenancy import Organization, Tenant, Workspace
from control.core.domain.values import slug_of
from control.core.repository.core import CoreRepositories
from shared.errors import Invalid
from shared.messaging.events import Envelope, Subscribers
from shared.postgres.connection import Connection
from shared.postgres.outbox import append_to_outbox


async def make_organization(envelope: Envelope, connection: Connection) -> None:
    """Who registered gets an organization, a workspace and a tenant, and administers them."""
    event = envelope.event
    if not isinstance(event, AccountRegistered) or event.organization_id is None:
        raise Invalid("not a registration")
    core = CoreRepositories(connection)
    region_id = await connection.fetchval(
        "SELECT id FROM regions WHERE is_active ORDER BY created_at, id LIMIT 1"
    )
    if region_id is None:
        raise Invalid("there is no active region that an organization could be in")
    organization = Organization.create(
        id=event.organization_id,
        region_id=region_id,
        name=event.organization_name,
        # Names of organizations repeat, and nobody asked this person for a slug.
        slug=f"{slug_of(event.organization_name)[:50]}-{str(event.organization_id)[:8]}",
    )
    await core.organizations.save(organization)
    workspace = Workspace.create(organization_id=organization.id, name="Default", slug="default")
    await core.workspaces.save(workspace)
    tenant = Tenant.create(
        organization_id=organization.id,
        workspace_id=workspace.id,
        name="Default",
        slug="default",
    )
    await core.tenants.save(tenant)
    user = User.create(
        id=event.aggregate_id,
        organization_id=organization.id,
        tenant_id=tenant.id,
        email=event.email,
        first_name=event.first_name,
        last_name=event.last_name,
    )
    role = await core.roles.get(ADMINISTRATOR.id)
    user.assign_role(role, Assignment(role.id), now=event.occurred_at)
    await core.users.save(user, by=None)
    await append_to_outbox(connection, core.events)


async def note_verified_address(envelope: Envelope, connection: Connection) -> None:
    """Their address is theirs."""
    event = envelope.event
    if not isinstance(event, EmailVerified):
        raise Invalid("not a verification")
    core = CoreRepositories(connection)
    user = await core.users.get(event.aggregate_id)
    user.verify_email(event.email)
    await core.users.save(user, by=None)
    await append_to_outbox(connection, core.events)


async def note_accepted_invitation(envelope: Envelope, connection: Connection) -> None:
    """They joined."""
    event = envelope.event
    if not isinstance(event, InvitationRedeemed):
        raise Invalid("not an invitation")
    core = CoreRepositories(connection)
    invitation = await core.invitations.get(event.invitation_id)
    if invitation.accepted_at is None:
        invitation.accept(now=event.occurred_at)
        await core.invitations.save(invitation)
    await append_to_outbox(connection, core.events)


async def note_sign_in(envelope: Envelope, connection: Connection) -> None:
    """When they were here last."""
    core = CoreRepositories(connection)
    await core.users.touch_login(envelope.event.aggregate_id, envelope.event.occurred_at)


def subscribers() -> Subscribers:
    """Who listens to what; the names are kept with each event, and never change."""
    return {
        AccountRegistered: {"core.make_organization": make_organization},
        EmailVerified: {"core.note_verified_address": note_verified_address},
        InvitationRedeemed: {"core.note_accepted_invitation": note_accepted_invitation},
        AuthLogin: {"core.note_sign_in": note_sign_in},
    }
