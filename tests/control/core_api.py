"""Core's routes with a sign-in of tests: a bearer token is the id of the person."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from aiohttp import web

from control.core.access import Access
from control.core.api import people, roles, tenancy
from control.core.commands import people as people_commands
from control.core.commands import roles as role_commands
from control.core.commands import tenancy as tenancy_commands
from control.core.repository.core import CoreRepositories
from shared.caller import Caller
from shared.errors import Unauthenticated
from shared.http.application import build_application
from shared.http.call import Services
from shared.messaging.commands import CommandBus
from shared.postgres.database import Database, UnitOfWork
from shared.settings import Settings

MODULES = (tenancy.routes, people.routes, roles.routes)


async def caller_now(
    database: Database, access: Access, user_id: UUID, wanted: UUID | None = None
) -> Caller:
    """The caller, as authentication asks for them."""
    place = access.tenant_in_question(user_id, wanted)
    people = await database.look_up("SELECT * FROM person_in($1, $2)", user_id, place)
    person = people[0] if people else None
    return await access.caller_of(user_id, person, wanted_tenant_id=wanted)


def core_services(database: Database, settings: Settings) -> Services:
    """Core, and nothing else."""
    work = UnitOfWork(database, CoreRepositories)
    access = Access(database)

    async def authenticate(request: web.Request) -> Caller:
        _scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            user_id = UUID(token)
        except ValueError:
            raise Unauthenticated("no token") from None
        wanted = request.headers.get("X-Tenant-Id")
        return await caller_now(database, access, user_id, UUID(wanted) if wanted else None)

    return Services(
        settings=settings,
        commands=CommandBus(
            [
                tenancy_commands.handlers(work),
                people_commands.handlers(work),
                role_commands.handlers(work),
            ]
        ),
        database=database,
        authenticate=authenticate,
    )


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[str]:
    """The address that *application* is served at."""
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def core_application(database: Database, *, limit: int = 1_000_000) -> web.Application:
    """The API with core's routes, and *limit* requests a minute."""
    return build_application(core_services(database, Settings(throttle_limit=limit)), MODULES)
