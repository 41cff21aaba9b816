"""Routes of people, their roles and permissions, and invitations."""

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from control.core.commands import people as commands
from control.core.queries import people as queries
from control.core.queries.views import EffectivePermissions, InvitationView, UserView
from shared.http.call import Call
from shared.http.models import Body, Name, Page, PageQuery, Query, Text
from shared.http.routes import Routes

routes = Routes("People", "Users, what they may do and why, and invitations.")

ROLES_MAX = 20


class UserQuery(PageQuery):
    """A page of people."""

    SORTS: ClassVar[Sequence[str]] = (
        "createdAt",
        "updatedAt",
        "email",
        "firstName",
        "lastName",
        "lastLoginAt",
    )

    deleted: bool = Field(False, description="those that were deleted, instead of the others")
    is_active: bool | None = None
    role_id: UUID | None = Field(None, description="only who has this role directly")


class NewUser(Body):
    """A person who is asked to join."""

    email: Text = Field(max_length=254, examples=["ada@example.com"])
    first_name: Name = Field(examples=["Ada"])
    last_name: Name = Field(examples=["Lovelace"])
    role_ids: list[UUID] = Field([], max_length=ROLES_MAX)
    tenant_id: UUID | None = Field(None, description="the tenant that they start in")
    organization_id: UUID | None = Field(None, description="yours, unless you run the platform")


class UserChange(Body):
    """What shall be different."""

    email: Text | None = Field(None, max_length=254)
    first_name: Name | None = None
    last_name: Name | None = None
    avatar_url: Text | None = Field(None, max_length=500)
    timezone: Text | None = Field(None, max_length=64, examples=["Europe/London"])
    language: Text | None = Field(None, max_length=10, examples=["en"])
    tenant_id: UUID | None = None


class ProfileChange(Body):
    """What shall be different about yourself."""

    first_name: Name | None = None
    last_name: Name | None = None
    avatar_url: Text | None = Field(None, max_length=500)
    timezone: Text | None = Field(None, max_length=64, examples=["Europe/London"])
    language: Text | None = Field(None, max_length=10, examples=["en"])
    tenant_id: UUID | None = None


class NewAssignment(Body):
    """A role for a person."""

    role_id: UUID
    tenant_id: UUID | None = Field(None, description="only in this tenant; default: in all")
    expires_at: AwareDatetime | None = None


class AssignmentQuery(Query):
    """Where a role is taken away."""

    tenant_id: UUID | None = Field(None, description="in this tenant; default: the one for all")


class NewGrant(Body):
    """A permission for a person."""

    permission_id: UUID


@routes.get("/users", permission="user:read", query=UserQuery, answer=Page[UserView])
async def list_users(call: Call, query: UserQuery) -> Page[UserView]:
    """List people."""
    async with call.read() as connection:
        return await queries.list_users(
            connection,
            query,
            deleted=query.deleted,
            is_active=query.is_active,
            role_id=query.role_id,
        )


@routes.post(
    "/users",
    permission="user:write",
    body=NewUser,
    answer=UserView,
    status=201,
    is_versioned=True,
    errors=(404,),
)
async def create_user(call: Call, body: NewUser) -> UserView:
    """Create a person: they get a mail with a link, and choose a password by it."""
    user_id = await call.execute(commands.InviteUser(**dict(body)))
    async with call.read() as connection:
        return await queries.get_user(connection, user_id)


@routes.get("/users/{id}", permission="user:read", answer=UserView, is_versioned=True)
async def get_user(call: Call) -> UserView:
    """Get a person."""
    async with call.read() as connection:
        return await queries.get_user(connection, call.id())


async def _changed(call: Call, body: UserChange) -> UserView:
    await call.execute(
        commands.ChangeUser(id=call.id(), expected_version=call.expected_version, **dict(body))
    )
    async with call.read() as connection:
        return await queries.get_user(connection, call.id())


@routes.put(
    "/users/{id}", permission="user:write", body=UserChange, answer=UserView, is_versioned=True
)
async def replace_user(call: Call, body: UserChange) -> UserView:
    """Change a person; what is left out stays."""
    return await _changed(call, body)


@routes.patch(
    "/users/{id}", permission="user:write", body=UserChange, answer=UserView, is_versioned=True
)
async def change_user(call: Call, body: UserChange) -> UserView:
    """Change a person; only what is given."""
    return await _changed(call, body)


@routes.delete("/users/{id}", permission="user:delete", is_versioned=True, errors=(409,))
async def delete_user(call: Call) -> None:
    """Set a person aside; they can be restored for 90 days."""
    await call.execute(commands.DeleteUser(id=call.id(), expected_version=call.expected_version))


@routes.post("/users/{id}/activate", permission="user:write", answer=UserView, is_versioned=True)
async def activate_user(call: Call) -> UserView:
    """Let a person in again."""
    await call.execute(
        commands.SwitchUser(id=call.id(), expected_version=call.expected_version, is_active=True)
    )
    return await get_user(call)


@routes.post("/users/{id}/deactivate", permission="user:write", answer=UserView, is_versioned=True)
async def deactivate_user(call: Call) -> UserView:
    """Keep a person out, from their next request on."""
    await call.execute(
        commands.SwitchUser(id=call.id(), expected_version=call.expected_version, is_active=False)
    )
    return await get_user(call)


@routes.post("/users/{id}/restore", permission="user:delete", answer=UserView, is_versioned=True)
async def restore_user(call: Call) -> UserView:
    """Take back a person who was deleted, with the roles that they had."""
    await call.execute(commands.RestoreUser(id=call.id()))
    return await get_user(call)


@routes.post("/users/{id}/purge", permission="user:delete", status=204)
async def purge_user(call: Call) -> None:
    """Let a person who was deleted go for good."""
    await call.execute(commands.PurgeUser(id=call.id()))


@routes.post(
    "/users/{id}/roles", permission="user:write", body=NewAssignment, answer=UserView, status=201
)
async def assign_role(call: Call, body: NewAssignment) -> UserView:
    """Give a person a role; not one that allows more than you may yourself."""
    await call.execute(commands.AssignRole(user_id=call.id(), **dict(body)))
    return await get_user(call)


@routes.delete(
    "/users/{id}/roles/{role_id}", permission="user:write", query=AssignmentQuery, errors=(409,)
)
async def revoke_role(call: Call, query: AssignmentQuery) -> None:
    """Take a role away from a person."""
    await call.execute(
        commands.RevokeRole(
            user_id=call.id(), role_id=call.id("role_id"), tenant_id=query.tenant_id
        )
    )


@routes.get("/users/{id}/permissions", permission="user:read", answer=EffectivePermissions)
async def get_user_permissions(call: Call) -> EffectivePermissions:
    """Get all that a person may do, each with every reason why."""
    async with call.read() as connection:
        return await queries.effective_permissions(connection, call.id())


@routes.post(
    "/users/{id}/permissions",
    permission="user:write",
    body=NewGrant,
    answer=EffectivePermissions,
    status=201,
)
async def grant_permission(call: Call, body: NewGrant) -> EffectivePermissions:
    """Give a person one permission beside their roles; not one that you do not have."""
    await call.execute(
        commands.GrantPermission(user_id=call.id(), permission_id=body.permission_id)
    )
    return await get_user_permissions(call)


@routes.delete("/users/{id}/permissions/{permission_id}", permission="user:write")
async def revoke_permission(call: Call) -> None:
    """Take a permission away that a person has beside their roles."""
    await call.execute(
        commands.RevokePermission(user_id=call.id(), permission_id=call.id("permission_id"))
    )


@routes.get("/me/profile", permission="signed-in", answer=UserView, is_versioned=True)
async def get_own_profile(call: Call) -> UserView:
    """Get your own profile."""
    async with call.read() as connection:
        return await queries.get_user(connection, call.own_id)


@routes.patch(
    "/me/profile",
    permission="signed-in",
    body=ProfileChange,
    answer=UserView,
    is_versioned=True,
    errors=(404,),
)
async def change_own_profile(call: Call, body: ProfileChange) -> UserView:
    """Change your own profile; only what is given."""
    await call.execute(
        commands.ChangeOwnProfile(
            id=call.own_id, expected_version=call.expected_version, **dict(body)
        )
    )
    return await get_own_profile(call)


class InvitationQuery(PageQuery):
    """A page of invitations."""

    SORTS: ClassVar[Sequence[str]] = ("createdAt", "expiresAt", "email")


@routes.get(
    "/invitations",
    permission="user:read",
    query=InvitationQuery,
    answer=Page[InvitationView],
)
async def list_invitations(call: Call, query: InvitationQuery) -> Page[InvitationView]:
    """List invitations."""
    async with call.read() as connection:
        return await queries.list_invitations(connection, query)


@routes.post(
    "/invitations",
    permission="user:write",
    body=NewUser,
    answer=InvitationView,
    status=201,
    errors=(404,),
)
async def create_invitation(call: Call, body: NewUser) -> InvitationView:
    """Invite a person: the same as creating them; the answer is the invitation."""
    user_id = await call.execute(commands.InviteUser(**dict(body)))
    async with call.read() as connection:
        return await queries.get_invitation_of(connection, user_id)


@routes.get("/invitations/{id}", permission="user:read", answer=InvitationView)
async def get_invitation(call: Call) -> InvitationView:
    """Get an invitation."""
    async with call.read() as connection:
        return await queries.get_invitation(connection, call.id())


@routes.post("/invitations/{id}/resend", permission="user:write", answer=InvitationView)
async def resend_invitation(call: Call) -> InvitationView:
    """Send another mail; the link of the one before is no longer good."""
    await call.execute(commands.SendInvitationAgain(id=call.id()))
    return await get_invitation(call)


@routes.post("/invitations/{id}/revoke", permission="user:write", answer=InvitationView)
async def revoke_invitation(call: Call) -> InvitationView:
    """Let nobody come in by an invitation."""
    await call.execute(commands.RevokeInvitation(id=call.id()))
    return await get_invitation(call)
