"""Routes of roles, permissions and groups."""

from collections.abc import Sequence
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field

from control.core.commands import roles as commands
from control.core.queries import people as queries
from control.core.queries.views import GroupView, PermissionView, RoleView
from shared.http.call import Call
from shared.http.models import Body, Description, Name, Page, PageQuery, View
from shared.http.routes import Routes

routes = Routes("Roles", "Roles, the permissions that they hold, and groups of people.")

PERMISSIONS_MAX = 200
MEMBERS_MAX = 1_000
GROUP_ROLES_MAX = 50

PermissionName = Annotated[str, Field(max_length=100, examples=["dashboards:read"])]


class PermissionList(View):
    """Everything that can be allowed."""

    data: list[PermissionView]


class RoleQuery(PageQuery):
    """A page of roles."""

    SORTS: ClassVar[Sequence[str]] = ("createdAt", "updatedAt", "name", "level")


class GroupQuery(PageQuery):
    """A page of groups."""

    SORTS: ClassVar[Sequence[str]] = ("createdAt", "updatedAt", "name")


class NewRole(Body):
    """A role to be."""

    name: Name = Field(examples=["On call"])
    description: Description = ""
    level: int = Field(4, ge=2, le=5, description="2 is as strong as administrators, 5 the weakest")
    permissions: list[PermissionName] = Field(max_length=PERMISSIONS_MAX)
    organization_id: UUID | None = Field(None, description="yours, unless you run the platform")


class RoleChange(Body):
    """What shall be different; permissions are given in full."""

    name: Name | None = None
    description: Description | None = None
    level: int | None = Field(None, ge=2, le=5)
    permissions: list[PermissionName] | None = Field(None, max_length=PERMISSIONS_MAX)


class NewGroup(Body):
    """A group to be."""

    name: Name = Field(examples=["Shop team"])
    description: Description = ""
    user_ids: list[UUID] = Field([], max_length=MEMBERS_MAX)
    role_ids: list[UUID] = Field([], max_length=GROUP_ROLES_MAX)
    organization_id: UUID | None = Field(None, description="yours, unless you run the platform")


class GroupChange(Body):
    """What shall be different; people and roles are given in full."""

    name: Name | None = None
    description: Description | None = None
    user_ids: list[UUID] | None = Field(None, max_length=MEMBERS_MAX)
    role_ids: list[UUID] | None = Field(None, max_length=GROUP_ROLES_MAX)


@routes.get("/permissions", permission="permission:read", answer=PermissionList)
async def list_permissions(call: Call) -> PermissionList:
    """List everything that can be allowed."""
    async with call.read() as connection:
        return PermissionList(data=await queries.list_permissions(connection))


@routes.get("/roles", permission="role:read", query=RoleQuery, answer=Page[RoleView])
async def list_roles(call: Call, query: RoleQuery) -> Page[RoleView]:
    """List roles: those of the system, and those of your organization."""
    async with call.read() as connection:
        return await queries.list_roles(connection, query)


@routes.post(
    "/roles",
    permission="role:write",
    body=NewRole,
    answer=RoleView,
    status=201,
    is_versioned=True,
    errors=(404,),
)
async def create_role(call: Call, body: NewRole) -> RoleView:
    """Create a role; not one that allows more than you may yourself."""
    role_id = await call.execute(commands.CreateRole(**dict(body)))
    async with call.read() as connection:
        return await queries.get_role(connection, role_id)


@routes.get("/roles/{id}", permission="role:read", answer=RoleView, is_versioned=True)
async def get_role(call: Call) -> RoleView:
    """Get a role."""
    async with call.read() as connection:
        return await queries.get_role(connection, call.id())


async def _changed(call: Call, body: RoleChange) -> RoleView:
    await call.execute(
        commands.ChangeRole(id=call.id(), expected_version=call.expected_version, **dict(body))
    )
    async with call.read() as connection:
        return await queries.get_role(connection, call.id())


@routes.put(
    "/roles/{id}", permission="role:write", body=RoleChange, answer=RoleView, is_versioned=True
)
async def replace_role(call: Call, body: RoleChange) -> RoleView:
    """Change a role of your organization; what is left out stays."""
    return await _changed(call, body)


@routes.patch(
    "/roles/{id}", permission="role:write", body=RoleChange, answer=RoleView, is_versioned=True
)
async def change_role(call: Call, body: RoleChange) -> RoleView:
    """Change a role of your organization; only what is given."""
    return await _changed(call, body)


@routes.delete("/roles/{id}", permission="role:delete", is_versioned=True)
async def delete_role(call: Call) -> None:
    """Delete a role of your organization, and take it from everybody."""
    await call.execute(commands.DeleteRole(id=call.id(), expected_version=call.expected_version))


@routes.get("/groups", permission="group:read", query=GroupQuery, answer=Page[GroupView])
async def list_groups(call: Call, query: GroupQuery) -> Page[GroupView]:
    """List groups."""
    async with call.read() as connection:
        return await queries.list_groups(connection, query)


@routes.post(
    "/groups",
    permission="group:write",
    body=NewGroup,
    answer=GroupView,
    status=201,
    is_versioned=True,
    errors=(404,),
)
async def create_group(call: Call, body: NewGroup) -> GroupView:
    """Create a group."""
    group_id = await call.execute(commands.CreateGroup(**dict(body)))
    async with call.read() as connection:
        return await queries.get_group(connection, group_id)


@routes.get("/groups/{id}", permission="group:read", answer=GroupView, is_versioned=True)
async def get_group(call: Call) -> GroupView:
    """Get a group."""
    async with call.read() as connection:
        return await queries.get_group(connection, call.id())


@routes.patch(
    "/groups/{id}",
    permission="group:write",
    body=GroupChange,
    answer=GroupView,
    is_versioned=True,
)
async def change_group(call: Call, body: GroupChange) -> GroupView:
    """Change a group; only what is given."""
    await call.execute(
        commands.ChangeGroup(id=call.id(), expected_version=call.expected_version, **dict(body))
    )
    return await get_group(call)


@routes.delete("/groups/{id}", permission="group:delete", is_versioned=True)
async def delete_group(call: Call) -> None:
    """Delete a group, and what its roles allowed its people."""
    await call.execute(commands.DeleteGroup(id=call.id(), expected_version=call.expected_version))
