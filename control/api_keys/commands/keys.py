"""Commands about API keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from control.api_keys.domain.keys import ApiKey, checked_permissions, expiry_of
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
    """A key of the caller's tenant."""

    name: str
    description: str
    permissions: Sequence[str]
    allowed_networks: Sequence[str]
    expires_in_days: int


async def create(command: CreateApiKey, by: Caller, work: Work, peppers: Peppers) -> NewKey:
    """Forbidden, when it would allow what the caller may not."""
    tenant_id = tenant_of(by)
    if by.organization_id is None:
        raise Forbidden("this is for people of an organization")
    for permission in sorted(checked_permissions(command.permissions)):
        by.require(permission)
    secret = new_secret()
    key = ApiKey(
        organization_id=by.organization_id,
        tenant_id=tenant_id,
        key_id=new_key_id(),
        secret_hash=peppers.hash(secret),
        pepper_id=peppers.current_id,
        name=command.name,
        description=command.description,
        permissions=frozenset(command.permissions),
        allowed_networks=command.allowed_networks,
        created_by=by.user_id,
        expires_at=expiry_of(command.expires_in_days, now=utc_now()),
    )
    key.created()
    async with work.begin(by.scope) as keys:
        await keys.require_room(tenant_id)
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


async def change(command: ChangeApiKey, by: Caller, work: Work) -> None:
    """Change what is given."""
    async with work.begin(by.scope) as keys:
        key = await keys.get(command.id, tenant_of(by))
        key.require_version(command.expected_version)
        key.change(
            name=command.name,
            description=command.description,
            allowed_networks=command.allowed_networks,
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
        key = await keys.get(command.id, tenant_of(by))
        # Whoever gets the new secret may do what the key may.
        for permission in sorted(key.permissions):
            by.require(permission)
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
        key = await keys.get(command.id, tenant_of(by))
        key.require_version(command.expected_version)
        key.revoke(by=by.user_id, now=utc_now())
        await keys.save([key])


def tenant_of(by: Caller) -> UUID:
    """The tenant that the caller works in; Forbidden when they work in none."""
    if by.tenant_id is None:
        raise Forbidden("keys belong to one tenant: name one in X-Tenant-Id")
    return by.tenant_id


def handlers(work: Work, peppers: Peppers) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    table: dict[type[Command[Any]], Handler] = {
        CreateApiKey: Handler(partial(create, work=work, peppers=peppers), "api-keys:write"),
        ChangeApiKey: Handler(partial(change, work=work), "api-keys:write"),
        RotateApiKey: Handler(partial(rotate, work=work, peppers=peppers), "api-keys:write"),
        RevokeApiKey: Handler(partial(revoke, work=work), "api-keys:write"),
    }
    return table
