"""Commands about a tenant's rules for pages of other origins, and their rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from shared.caller import Caller
from shared.cors.domain import CorsConfiguration
from shared.errors import Conflict, Forbidden, NotFound
from shared.messaging.commands import Command, CommandHandlers, Handler
from shared.messaging.events import Event
from shared.postgres.connection import Connection
from shared.postgres.database import UnitOfWork
from shared.postgres.rows import save_row

# All of all tenants are kept in memory by every API process.
CONFIGURATIONS_OF_A_TENANT_MAX: Final = 20


class CorsConfigurations:
    """Repository, opened for one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events: list[Event] = []

    async def get(self, configuration_id: UUID, tenant_id: UUID) -> CorsConfiguration:
        """The tenant's configuration, locked; NotFound when it has no such."""
        row = await self._connection.fetchrow(
            """
            SELECT id, version, organization_id, tenant_id, name, origins, methods, headers,
                   credentials, max_age, is_active
              FROM cors_configurations WHERE id = $1 AND tenant_id = $2 FOR UPDATE
            """,
            configuration_id,
            tenant_id,
        )
        if row is None:
            raise NotFound("no such CORS configuration")
        return CorsConfiguration(**dict(row))

    async def require_room(self, tenant_id: UUID) -> None:
        """Conflict, when the tenant has as many as it may; its row is locked for the count."""
        await self._connection.execute("SELECT FROM tenants WHERE id = $1 FOR UPDATE", tenant_id)
        count = await self._connection.fetchval(
            "SELECT count(*) FROM cors_configurations WHERE tenant_id = $1", tenant_id
        )
        if count >= CONFIGURATIONS_OF_A_TENANT_MAX:
            raise Conflict(
                f"a tenant has at most {CONFIGURATIONS_OF_A_TENANT_MAX} CORS configurations: "
                "add origins to one that is there, or delete one"
            )

    async def save(self, one: CorsConfiguration) -> None:
        """Insert or update; Conflict when the tenant has another one of that name."""
        columns = {
            "organization_id": one.organization_id,
            "tenant_id": one.tenant_id,
            "name": one.name,
            "origins": list(one.origins),
            "methods": list(one.methods),
            "headers": list(one.headers),
            "credentials": one.credentials,
            "max_age": one.max_age,
            "is_active": one.is_active,
        }
        await save_row(self._connection, "cors_configurations", one, columns)
        self.events += one.release_events()

    async def remove(self, one: CorsConfiguration) -> None:
        """Delete the row."""
        await self._connection.execute("DELETE FROM cors_configurations WHERE id = $1", one.id)
        self.events += one.release_events()


Work = UnitOfWork[CorsConfigurations]


@dataclass(frozen=True, kw_only=True)
class CreateCorsConfiguration(Command[UUID]):
    """Rules of the caller's tenant."""

    name: str
    origins: Sequence[str]
    methods: Sequence[str]
    headers: Sequence[str]
    credentials: bool
    max_age: int


async def create(command: CreateCorsConfiguration, by: Caller, work: Work) -> UUID:
    """Its id."""
    tenant_id = tenant_of(by)
    if by.organization_id is None:
        raise Forbidden("this is for people of an organization")
    one = CorsConfiguration(
        organization_id=by.organization_id, tenant_id=tenant_id, **vars(command)
    )
    one.created()
    async with work.begin(by.scope) as repository:
        await repository.require_room(tenant_id)
        await repository.save(one)
    return one.id


@dataclass(frozen=True, kw_only=True)
class ChangeCorsConfiguration(Command[None]):
    """New values for what is not None."""

    id: UUID
    expected_version: int | None = None
    name: str | None = None
    origins: Sequence[str] | None = None
    methods: Sequence[str] | None = None
    headers: Sequence[str] | None = None
    credentials: bool | None = None
    max_age: int | None = None
    is_active: bool | None = None


async def change(command: ChangeCorsConfiguration, by: Caller, work: Work) -> None:
    """Change what is given."""
    values = {
        name: value
        for name, value in vars(command).items()
        if name not in ("id", "expected_version")
    }
    async with work.begin(by.scope) as repository:
        one = await repository.get(command.id, tenant_of(by))
        one.require_version(command.expected_version)
        one.change(**values)
        await repository.save(one)


@dataclass(frozen=True, kw_only=True)
class DeleteCorsConfiguration(Command[None]):
    """Let pages of these origins call no more."""

    id: UUID
    expected_version: int | None = None


async def delete(command: DeleteCorsConfiguration, by: Caller, work: Work) -> None:
    """Remove it."""
    async with work.begin(by.scope) as repository:
        one = await repository.get(command.id, tenant_of(by))
        one.require_version(command.expected_version)
        one.delete()
        await repository.remove(one)


def tenant_of(by: Caller) -> UUID:
    """The tenant that the caller works in; Forbidden when they work in none."""
    if by.tenant_id is None:
        raise Forbidden("this is about one tenant: name one in X-Tenant-Id")
    return by.tenant_id


def handlers(work: Work) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    table: dict[type[Command[Any]], Handler] = {
        CreateCorsConfiguration: Handler(partial(create, work=work), "cors:write"),
        ChangeCorsConfiguration: Handler(partial(change, work=work), "cors:write"),
        DeleteCorsConfiguration: Handler(partial(delete, work=work), "cors:delete"),
    }
    return table
