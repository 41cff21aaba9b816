"""Commands about roles and groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from control.core.commands.guards import (
    organization_for,
    require_grantable,
    require_held,
    require_not_stronger,
    require_of_organization,
)
from control.core.domain.roles import Group, Role
from control.core.repository.core import CoreRepositories
from shared.caller import Caller
from shared.errors import Forbidden
from shared.messaging.commands import Command, CommandHandlers, Handler
from shared.postgres.database import UnitOfWork

Work = UnitOfWork[CoreRepositories]


@dataclass(frozen=True, kw_only=True)
class CreateRole(Command[UUID]):
    """A role of an organization's own making."""

    organization_id: UUID | None
    name: str
    description: str
    level: int
    permissions: Sequence[str]


async def create_role(command: CreateRole, by: Caller, work: Work) -> UUID:
    """Its id; Forbidden, when it would allow what the caller may not."""
    organization_id = organization_for(by, command.organization_id)
    role = Role.create(
        organization_id=organization_id,
        name=command.name,
        description=command.description,
        level=command.level,
        permissions=command.permissions,
    )
    require_grantable(by, [role])
    async with work.begin(by.scope) as core:
        await core.organizations.get(organization_id)
        await core.roles.save(role)
    return role.id


@dataclass(frozen=True, kw_only=True)
class ChangeRole(Command[None]):
    """New values for what is not None."""

    id: UUID
    expected_version: int | None = None
    name: str | None = None
    description: str | None = None
    level: int | None = None
    permissions: Sequence[str] | None = None


async def change_role(command: ChangeRole, by: Caller, work: Work) -> None:
    """Forbidden for a role of the system, and for more than the caller may."""
    async with work.begin(by.scope) as core:
        role = await core.roles.get(command.id)
        role.require_version(command.expected_version)
        before = role.permissions
        if not by.is_platform and role.level < by.tier:
            raise Forbidden("this role is stronger than you are")
        role.change(
            name=command.name,
            description=command.description,
            level=command.level,
            permissions=command.permissions,
        )
        # Who renames a role need not hold what it allowed before.
        require_held(by, role.permissions - before)
        if not by.is_platform and role.level < by.tier:
            raise Forbidden("you cannot make a role stronger than you are")
        await core.roles.save(role)
        if role.organization_id is not None:
            await core.access_changed(role.organization_id)
            await core.require_administrators(role.organization_id)


@dataclass(frozen=True, kw_only=True)
class DeleteRole(Command[None]):
    """Take a role from everybody, and let it go."""

    id: UUID
    expected_version: int | None = None


async def delete_role(command: DeleteRole, by: Caller, work: Work) -> None:
    """Forbidden for a role of the system; Conflict when no administrator would be left."""
    async with work.begin(by.scope) as core:
        role = await core.roles.get(command.id)
        role.require_version(command.expected_version)
        if not by.is_platform and role.level < by.tier:
            raise Forbidden("this role is stronger than you are")
        role.delete()
        await core.roles.remove(role)
        if role.organization_id is not None:
            await core.access_changed(role.organization_id)
            await core.require_administrators(role.organization_id)


@dataclass(frozen=True, kw_only=True)
class CreateGroup(Command[UUID]):
    """A group of people."""

    organization_id: UUID | None
    name: str
    description: str
    user_ids: Sequence[UUID] = ()
    role_ids: Sequence[UUID] = ()


async def create_group(command: CreateGroup, by: Caller, work: Work) -> UUID:
    """Its id; Forbidden, when its roles allow what the caller may not."""
    organization_id = organization_for(by, command.organization_id)
    group = Group.create(
        organization_id=organization_id, name=command.name, description=command.description
    )
    async with work.begin(by.scope) as core:
        await core.organizations.get(organization_id)
        await _fill(core, by, group, command.user_ids, command.role_ids)
        await core.groups.save(group)
        await core.access_changed(organization_id)
    return group.id


@dataclass(frozen=True, kw_only=True)
class ChangeGroup(Command[None]):
    """New values for what is not None; people and roles are given in full."""

    id: UUID
    expected_version: int | None = None
    name: str | None = None
    description: str | None = None
    user_ids: Sequence[UUID] | None = None
    role_ids: Sequence[UUID] | None = None


async def change_group(command: ChangeGroup, by: Caller, work: Work) -> None:
    """Forbidden, when the group's roles allow what the caller may not."""
    async with work.begin(by.scope) as core:
        group = await core.groups.get(command.id)
        group.require_version(command.expected_version)
        group.change(name=command.name, description=command.description)
        if command.user_ids is not None or command.role_ids is not None:
            # Both decide who may do what: a new member gets all roles of the group.
            user_ids = group.user_ids if command.user_ids is None else command.user_ids
            role_ids = group.role_ids if command.role_ids is None else command.role_ids
            require_grantable(by, await core.roles.get_all(list(group.role_ids)))
            await _fill(core, by, group, list(user_ids), list(role_ids))
        await core.groups.save(group)
        await core.access_changed(group.organization_id)
        await core.require_administrators(group.organization_id)


@dataclass(frozen=True, kw_only=True)
class DeleteGroup(Command[None]):
    """Let a group go, and what its roles allowed its people."""

    id: UUID
    expected_version: int | None = None


async def delete_group(command: DeleteGroup, by: Caller, work: Work) -> None:
    """Conflict, when no administrator would be left."""
    async with work.begin(by.scope) as core:
        group = await core.groups.get(command.id)
        group.require_version(command.expected_version)
        require_grantable(by, await core.roles.get_all(list(group.role_ids)))
        group.delete()
        await core.groups.remove(group)
        await core.access_changed(group.organization_id)
        await core.require_administrators(group.organization_id)


async def _fill(
    core: CoreRepositories,
    by: Caller,
    group: Group,
    user_ids: Sequence[UUID],
    role_ids: Sequence[UUID],
) -> None:
    roles = await core.roles.get_all(role_ids)
    require_grantable(by, roles)
    for role in roles:
        require_of_organization(role, group.organization_id)
    await core.users.require_all(group.organization_id, user_ids)
    for user_id in set(user_ids) ^ group.user_ids:
        require_not_stronger(by, await core.level_of(user_id))
    group.change(user_ids=set(user_ids), role_ids=set(role_ids))


def handlers(work: Work) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    return {
        CreateRole: Handler(partial(create_role, work=work), "role:write"),
        ChangeRole: Handler(partial(change_role, work=work), "role:write"),
        DeleteRole: Handler(partial(delete_role, work=work), "role:delete"),
        CreateGroup: Handler(partial(create_group, work=work), "group:write"),
        ChangeGroup: Handler(partial(change_group, work=work), "group:write"),
        DeleteGroup: Handler(partial(delete_group, work=work), "group:delete"),
    }
