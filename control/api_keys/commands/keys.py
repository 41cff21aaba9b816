"""Commands about API keys."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from control.api_keys.domain.keys import ApiKey, Place, Scope, checked_permissions, expiry_of
from control.api_keys.domain.limits import Rates
from control.api_keys.repository.keys import ApiKeys
from shared.caller import Caller
from shared.errors import Forbidden
from shared.messaging.commands import Command, CommandHandlers, Handler
from shared.messaging.events import utc_now
from shared.postgres.database import UnitOfWork
from shared.security.peppers import Peppers, new_key_id, new_secret

Work = UnitOfWork[ApiKeys]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made, with its secret, which exists nowhere else."""

    id: UUID
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class CreateApiKey(Command[NewKey]):
    """A key of the caller's tenant, or of the workspace that it is in."""

    scope: Scope
    name: str
    description: str
    permissions: Sequence[str]
    allowed_networks: Sequence[str]
    limits: Rates
    expires_in_days: int


async def create(command: CreateApiKey, by: Caller, work: Work, peppers: Peppers) -> NewKey:
    """Forbidden, when it would allow what the caller may not."""
    place = place_of(by)
    if by.organization_id is None:
        raise Forbidden("this is for people of an organization")
    is_of_tenant = command.scope == "tenant"
    _require_rights(by, checked_permissions(command.permissions), is_of_tenant=is_of_tenant)
    secret = new_secret()
    key = ApiKey(
        organization_id=by.organization_id,
        tenant_id=place.tenant_id if is_of_tenant else None,
        workspace_id=None if is_of_tenant else place.workspace_id,
        key_id=new_key_id(),
        secret_hash=peppers.hash(secret),
        pepper_id=peppers.current_id,
        name=command.name,
        description=command.description,
        permissions=frozenset(command.permissions),
        allowed_networks=command.allowed_networks,
        limits=command.limits,
        created_by=by.user_id,
        expires_at=expiry_of(command.expires_in_days, now=utc_now()),
    )
    key.created()
    async with work.begin(by.scope) as keys:
        await keys.require_room(key)
        await keys.save([key])
    return NewKey(key.id, secret)


@dataclass(frozen=True, kw_only=True)
class ChangeApiKey(Command[None]):
    """New values for what is not None; what a key allows never changes: make another."""

    id: UUID
    expected_version: int | None = None
    name: str | None = None
    description: str | None = None
    allowed_networks: Sequence[str] | None = None
    limits: Rates | None = None


async def change(command: ChangeApiKey, by: Caller, work: Work) -> None:
    """Change what is given."""
    async with work.begin(by.scope) as keys:
        key = await _get(keys, command.id, by)
        key.require_version(command.expected_version)
        key.change(
            name=command.name,
            description=command.description,
            allowed_networks=command.allowed_networks,
            limits=command.limits,
        )
        await keys.save([key])


@dataclass(frozen=True, kw_only=True)
class RotateApiKey(Command[NewKey]):
    """Replace a key; the old one works until the grace is over."""

    id: UUID
    grace: timedelta


async def rotate(command: RotateApiKey, by: Caller, work: Work, peppers: Peppers) -> NewKey:
    """The new key; Forbidden, when it allows what the caller may not."""
    secret = new_secret()
    async with work.begin(by.scope) as keys:
        key = await _get(keys, command.id, by)
        # Whoever gets the new secret may do what the key may.
        _require_rights(by, key.permissions, is_of_tenant=key.tenant_id is not None)
        successor = key.rotate(
            key_id=new_key_id(),
            secret_hash=peppers.hash(secret),
            pepper_id=peppers.current_id,
            grace=command.grace,
            by=by.user_id,
            now=utc_now(),
        )
        await keys.save([successor, key])
    return NewKey(successor.id, secret)


@dataclass(frozen=True, kw_only=True)
class RevokeApiKey(Command[None]):
    """End a key at once."""

    id: UUID
    expected_version: int | None = None


async def revoke(command: RevokeApiKey, by: Caller, work: Work) -> None:
    """Conflict when it has ended already."""
    async with work.begin(by.scope) as keys:
        key = await _get(keys, command.id, by)
        key.require_version(command.expected_version)
        key.revoke(by=by.user_id, now=utc_now())
        await keys.save([key])


def place_of(by: Caller) -> Place:
    """Where the caller works; Forbidden when they work in no tenant."""
    if by.tenant_id is None:
        raise Forbidden("keys belong to one tenant: name one in X-Tenant-Id")
    return Place(by.tenant_id, by.workspace_id)


async def _get(keys: ApiKeys, key_id: UUID, by: Caller) -> ApiKey:
    """A key that the caller may change: one of a workspace is not for who works in one tenant."""
    key = await keys.get(key_id, place_of(by))
    _require_rights(by, (), is_of_tenant=key.tenant_id is not None)
    return key


def _require_rights(by: Caller, permissions: Iterable[str], *, is_of_tenant: bool) -> None:
    """Forbidden, unless the caller may do all of it, and administer keys, where the key works."""
    for permission in sorted(permissions):
        by.require(permission)
    if not is_of_tenant:
        for permission in sorted((*permissions, "api-keys:write")):
            by.require_everywhere(permission)


def handlers(work: Work, peppers: Peppers) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    table: dict[type[Command[Any]], Handler] = {
        CreateApiKey: Handler(partial(create, work=work, peppers=peppers), "api-keys:write"),
        ChangeApiKey: Handler(partial(change, work=work), "api-keys:write"),
        RotateApiKey: Handler(partial(rotate, work=work, peppers=peppers), "api-keys:write"),
        RevokeApiKey: Handler(partial(revoke, work=work), "api-keys:write"),
    }
    return table
