"""Commands about people: who belongs to the organization, and how they come in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from control.core.commands.guards import (
    organization_for,
    require_grantable,
    require_held,
    require_not_stronger,
    require_of_organization,
)
from control.core.domain.people import Assignment, Invitation, User
from control.core.domain.permissions import PERMISSION_OF_ID
from control.core.repository.core import CoreRepositories
from shared.caller import Caller
from shared.errors import Conflict, Forbidden, NotFound
from shared.messaging.commands import SIGNED_IN, Command, CommandHandlers, Handler
from shared.messaging.events import utc_now
from shared.postgres.database import UnitOfWork

Work = UnitOfWork[CoreRepositories]


@dataclass(frozen=True, kw_only=True)
class EditUser(Command[None]):
    """A change of one person; with *expected_version* only if nobody changed them since."""

    id: UUID
    expected_version: int | None = None


@dataclass(frozen=True, kw_only=True)
class InviteUser(Command[UUID]):
    """Ask a person to join; they choose a password by the link in the mail."""

    organization_id: UUID | None
    email: str
    first_name: str
    last_name: str
    role_ids: Sequence[UUID] = ()
    tenant_id: UUID | None = None


async def invite_user(command: InviteUser, by: Caller, work: Work) -> UUID:
    """The id of the person; they may sign in once they accepted."""
    organization_id = organization_for(by, command.organization_id)
    now = utc_now()
    user = User.create(
        organization_id=organization_id,
        email=command.email,
        first_name=command.first_name,
        last_name=command.last_name,
        tenant_id=command.tenant_id,
    )
    async with work.begin(by.scope) as core:
        organization = await core.organizations.get(organization_id)
        if command.tenant_id is not None:
            await core.tenants.get(command.tenant_id)
        roles = await core.roles.get_all(command.role_ids)
        require_grantable(by, roles)
        for role in roles:
            require_of_organization(role, organization_id)
            user.assign_role(role, Assignment(role.id), now=now)
        invitation = Invitation.create(
            user,
            invited_by=by.user_id,
            by_name=by.email,
            organization=organization.name,
            now=now,
        )
        await core.users.save(user, by=by.user_id)
        await core.invitations.save(invitation)
    return user.id


@dataclass(frozen=True, kw_only=True)
class SendInvitationAgain(Command[None]):
    """Another mail with another link."""

    id: UUID


async def send_invitation_again(command: SendInvitationAgain, by: Caller, work: Work) -> None:
    """The link of the mail before is no longer good."""
    async with work.begin(by.scope) as core:
        invitation = await core.invitations.get(command.id)
        user = await core.users.get(invitation.user_id)
        organization = await core.organizations.get(invitation.organization_id)
        invitation.send_again(
            first_name=user.first_name,
            by_name=by.email,
            organization=organization.name,
            now=utc_now(),
        )
        await core.invitations.save(invitation)


@dataclass(frozen=True, kw_only=True)
class RevokeInvitation(Command[None]):
    """Let nobody come in by it; who did not join yet is removed."""

    id: UUID


async def revoke_invitation(command: RevokeInvitation, by: Caller, work: Work) -> None:
    """The person goes too: they never were here."""
    async with work.begin(by.scope) as core:
        invitation = await core.invitations.get(command.id)
        require_not_stronger(by, await core.level_of(invitation.user_id))
        invitation.revoke(now=utc_now())
        await core.invitations.save(invitation)
        user = await core.users.get(invitation.user_id, deleted=True)
        user.delete(now=utc_now())
        await core.users.save(user, by=by.user_id)


@dataclass(frozen=True, kw_only=True)
class ChangeUser(EditUser):
    """New values for what is not None."""

    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    avatar_url: str | None = None
    timezone: str | None = None
    language: str | None = None
    tenant_id: UUID | None = None


async def change_user(command: ChangeUser, by: Caller, work: Work) -> None:
    """Somebody else's profile; Forbidden for who may do more than the caller."""
    async with work.begin(by.scope) as core:
        require_not_stronger(by, await core.level_of(command.id))
        await _change(command, by, core)


@dataclass(frozen=True, kw_only=True)
class ChangeOwnProfile(ChangeUser):
    """The caller's own profile; the address of mail is changed with a password, not here."""


async def change_own_profile(command: ChangeOwnProfile, by: Caller, work: Work) -> None:
    """Forbidden for anybody's but the caller's own."""
    if command.id != by.user_id or command.email is not None:
        raise Forbidden("this is for your own profile")
    async with work.begin(by.scope) as core:
        await _change(command, by, core)


async def _change(command: ChangeUser, by: Caller, core: CoreRepositories) -> None:
    user = await core.users.get(command.id)
    user.require_version(command.expected_version)
    if command.tenant_id is not None:
        tenant = await core.tenants.get(command.tenant_id)
        if tenant.organization_id != user.organization_id:
            raise NotFound("no such tenant")
    user.change(
        email=command.email,
        first_name=command.first_name,
        last_name=command.last_name,
        avatar_url=command.avatar_url,
        timezone=command.timezone,
        language=command.language,
        tenant_id=command.tenant_id,
    )
    await core.users.save(user, by=by.user_id)
    await core.access_changed(user.organization_id)


@dataclass(frozen=True, kw_only=True)
class SwitchUser(EditUser):
    """Let a person in, or keep them out."""

    is_active: bool


async def switch_user(command: SwitchUser, by: Caller, work: Work) -> None:
    """Effective at their next request; Conflict for the last administrator."""
    async with work.begin(by.scope) as core:
        require_not_stronger(by, await core.level_of(command.id))
        user = await core.users.get(command.id)
        user.require_version(command.expected_version)
        user.switch(is_active=command.is_active)
        await core.users.save(user, by=by.user_id)
        if not command.is_active:
            await core.require_administrators(user.organization_id)


class DeleteUser(EditUser):
    """Set a person aside; they can be restored."""


async def delete_user(command: DeleteUser, by: Caller, work: Work) -> None:
    """Effective at their next request; Conflict for the last administrator and for oneself."""
    if command.id == by.user_id:
        raise Conflict("you cannot delete yourself: ask another administrator")
    async with work.begin(by.scope) as core:
        require_not_stronger(by, await core.level_of(command.id))
        user = await core.users.get(command.id)
        user.require_version(command.expected_version)
        user.delete(now=utc_now())
        await core.users.save(user, by=by.user_id)
        await core.require_administrators(user.organization_id)


class RestoreUser(EditUser):
    """Take a deleted person back."""


async def restore_user(command: RestoreUser, by: Caller, work: Work) -> None:
    """With the roles that they had; Conflict when their address is somebody else's by now."""
    async with work.begin(by.scope) as core:
        require_not_stronger(by, await core.level_of(command.id))
        user = await core.users.get(command.id, deleted=True)
        user.restore(now=utc_now())
        await core.users.save(user, by=by.user_id)


class PurgeUser(EditUser):
    """Let a deleted person go for good."""


async def purge_user(command: PurgeUser, by: Caller, work: Work) -> None:
    """Conflict unless they were deleted before."""
    async with work.begin(by.scope) as core:
        require_not_stronger(by, await core.level_of(command.id))
        user = await core.users.get(command.id, deleted=True)
        user.purge()
        await core.users.remove(user)


@dataclass(frozen=True, kw_only=True)
class AssignRole(Command[None]):
    """Give a person a role, in all tenants or in one, for good or until a time."""

    user_id: UUID
    role_id: UUID
    tenant_id: UUID | None = None
    expires_at: datetime | None = None


async def assign_role(command: AssignRole, by: Caller, work: Work) -> None:
    """Forbidden, when the role allows what the caller may not."""
    async with work.begin(by.scope) as core:
        require_not_stronger(by, await core.level_of(command.user_id))
        user = await core.users.get(command.user_id)
        role = await core.roles.get(command.role_id)
        require_of_organization(role, user.organization_id)
        require_grantable(by, [role])
        if command.tenant_id is not None:
            tenant = await core.tenants.get(command.tenant_id)
            if tenant.organization_id != user.organization_id:
                raise NotFound("no such tenant")
        assignment = Assignment(role.id, command.tenant_id, command.expires_at)
        user.assign_role(role, assignment, now=utc_now())
        await core.users.save(user, by=by.user_id)
        await core.access_changed(user.organization_id)


@dataclass(frozen=True, kw_only=True)
class RevokeRole(Command[None]):
    """Take a role away that a person has in all tenants, or in one."""

    user_id: UUID
    role_id: UUID
    tenant_id: UUID | None = None


async def revoke_role(command: RevokeRole, by: Caller, work: Work) -> None:
    """Conflict, when it leaves the organization without an administrator."""
    async with work.begin(by.scope) as core:
        require_not_stronger(by, await core.level_of(command.user_id))
        user = await core.users.get(command.user_id)
        role = await core.roles.get(command.role_id)
        user.revoke_role(role, command.tenant_id)
        await core.users.save(user, by=by.user_id)
        await core.access_changed(user.organization_id)
        await core.require_administrators(user.organization_id)


@dataclass(frozen=True, kw_only=True)
class GrantPermission(Command[None]):
    """Give a person one permission beside their roles."""

    user_id: UUID
    permission_id: UUID


async def grant_permission(command: GrantPermission, by: Caller, work: Work) -> None:
    """Forbidden, when the caller does not have it."""
    permission = PERMISSION_OF_ID.get(command.permission_id)
    if permission is None:
        raise NotFound("no such permission")
    require_held(by, [permission.name])
    async with work.begin(by.scope) as core:
        require_not_stronger(by, await core.level_of(command.user_id))
        user = await core.users.get(command.user_id)
        user.grant(permission.name)
        await core.users.save(user, by=by.user_id)
        await core.access_changed(user.organization_id)


@dataclass(frozen=True, kw_only=True)
class RevokePermission(Command[None]):
    """Take a permission away that a person has beside their roles."""

    user_id: UUID
    permission_id: UUID


async def revoke_permission(command: RevokePermission, by: Caller, work: Work) -> None:
    """NotFound, when it comes from a role or they do not have it."""
    permission = PERMISSION_OF_ID.get(command.permission_id)
    if permission is None:
        raise NotFound("no such permission")
    async with work.begin(by.scope) as core:
        require_not_stronger(by, await core.level_of(command.user_id))
        user = await core.users.get(command.user_id)
        user.revoke(permission.name)
        await core.users.save(user, by=by.user_id)
        await core.access_changed(user.organization_id)


def handlers(work: Work) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    return {
        InviteUser: Handler(partial(invite_user, work=work), "user:write"),
        SendInvitationAgain: Handler(partial(send_invitation_again, work=work), "user:write"),
        RevokeInvitation: Handler(partial(revoke_invitation, work=work), "user:write"),
        ChangeUser: Handler(partial(change_user, work=work), "user:write"),
        ChangeOwnProfile: Handler(partial(change_own_profile, work=work), SIGNED_IN),
        SwitchUser: Handler(partial(switch_user, work=work), "user:write"),
        DeleteUser: Handler(partial(delete_user, work=work), "user:delete"),
        RestoreUser: Handler(partial(restore_user, work=work), "user:delete"),
        PurgeUser: Handler(partial(purge_user, work=work), "user:delete"),
        AssignRole: Handler(partial(assign_role, work=work), "user:write"),
        RevokeRole: Handler(partial(revoke_role, work=work), "user:write"),
        GrantPermission: Handler(partial(grant_permission, work=work), "user:write"),
        RevokePermission: Handler(partial(revoke_permission, work=work), "user:write"),
    }
