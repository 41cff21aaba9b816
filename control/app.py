"""The composition root of the control plane: every context, wired by name.

It alone knows adapters. The API and the worker are made of the same parts; what each of them runs
stands in control.processes.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from control.api_keys import events as api_keys_events
from control.api_keys import jobs as api_keys_jobs
from control.api_keys.api import keys as api_keys_api
from control.api_keys.api import limits as limits_api
from control.api_keys.api import usage as usage_api
from control.api_keys.authenticator import KeyAuthenticator
from control.api_keys.commands import keys as api_keys
from control.api_keys.commands import limits as ingestion_limits
from control.api_keys.repository.keys import ApiKeys
from control.api_keys.repository.limits import IngestionLimits
from control.api_keys.usage import UsageCopy
from control.api_keys.uses import KeyUses
from control.audit import api as audit_api
from control.audit import events as audit_events
from control.audit import jobs as audit_jobs
from control.audit.archive import Archive
from control.audit.checkpoints import Checkpoints
from control.audit.contradictions import Contradictions
from control.audit.person_keys import PersonKeys
from control.audit.queries import Trail
from control.audit.refusals import Refusals
from control.auth import events as auth_events
from control.auth import jobs as auth_jobs
from control.auth import subscribers as auth_subscribers
from control.auth.api import account as account_api
from control.auth.api import pages as pages_api
from control.auth.api import sign_in as sign_in_api
from control.auth.authenticator import Authenticator
from control.auth.commands import accounts, sessions, sign_in
from control.auth.commands.kit import Kit
from control.auth.repository import AuthRepositories
from control.auth.tokens import Tokens
from control.core import events as core_events
from control.core import subscribers as core_subscribers
from control.core.access import Access
from control.core.api import people as people_api
from control.core.api import roles as roles_api
from control.core.api import tenancy as tenancy_api
from control.core.commands import people, roles, tenancy
from control.core.repository.core import CoreRepositories
from control.telemetry.api import logs as logs_api
from control.telemetry.api import metrics as metrics_api
from control.telemetry.api import services as services_api
from control.telemetry.api import tail as tail_api
from control.telemetry.api import traces as traces_api
from control.telemetry.arrivals import Arrivals
from control.telemetry.queries.cursors import Cursors
from control.telemetry.queries.engine import Engine
from control.telemetry.queries.tail import Tails
from shared.cache import api as cache_api
from shared.cache.cache import Cache, cache_of
from shared.caller import Caller
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.cors import api as cors_api
from shared.cors import commands as cors_commands
from shared.cors import domain as cors_domain
from shared.email.mailer import open_mailer
from shared.http.call import Services
from shared.http.client_address import ClientAddress
from shared.messaging import api as events_api
from shared.messaging.commands import CommandBus
from shared.messaging.events import EventBus
from shared.platform import api as platform_api
from shared.platform import events as platform_events
from shared.platform.health import Health
from shared.postgres.database import Database, UnitOfWork, address_of
from shared.queue import api as queue_api
from shared.queue.worker import JobHandlers
from shared.security.credentials import carries_key
from shared.security.password_policy import PasswordPolicy
from shared.security.passwords import PasswordHasher
from shared.security.peppers import Peppers
from shared.security.secret_box import SecretBox
from shared.settings import Settings

ENCRYPTION_KEY_FILE = "encryption-keys"
# In order: this is also the order of the documentation.
ROUTES = (
    sign_in_api.routes,
    account_api.routes,
    pages_api.routes,
    people_api.routes,
    roles_api.routes,
    tenancy_api.routes,
    api_keys_api.routes,
    usage_api.routes,
    limits_api.routes,
    audit_api.routes,
    services_api.routes,
    traces_api.routes,
    logs_api.routes,
    metrics_api.routes,
    tail_api.routes,
    platform_api.routes,
    queue_api.routes,
    events_api.routes,
    cache_api.routes,
    cors_api.routes,
    # new contexts go above this line: routes
)
EVENTS = (
    *core_events.EVENTS,
    *auth_events.EVENTS,
    *api_keys_events.EVENTS,
    *audit_events.EVENTS,
    *platform_events.EVENTS,
    *cors_domain.EVENTS,
    # new contexts go above this line: events
)


@dataclass(frozen=True)
class Audit:
    """What the worker and the command line keep the audit trail with."""

    keys: PersonKeys
    archive: Archive
    checkpoints: Checkpoints
    contradictions: Contradictions


@dataclass(frozen=True)
class Control:
    """The control plane, opened: what its processes run."""

    settings: Settings
    database: Database
    kit: Kit
    services: Services
    events: EventBus
    jobs: Sequence[JobHandlers]
    api_keys: UnitOfWork[ApiKeys]
    usage: UsageCopy
    uses: KeyUses
    arrivals: Arrivals
    refusals: Refusals
    audit: Audit


@asynccontextmanager
async def open_control(settings: Settings) -> AsyncIterator[Control]:
    """Everything that the API and the worker share; closed in the reverse order."""
    async with AsyncExitStack() as stack:
        database = await Database.open(
            address_of(settings),
            size_max=settings.db_pool_size_max,
            statement_seconds_max=settings.db_statement_seconds_max,
        )
        stack.push_async_callback(database.close)
        box = secret_box(settings)
        tokens = Tokens(settings, database, box)
        await tokens.open()
        hasher = PasswordHasher(settings.password_hash_memory_kib)
        stack.callback(hasher.close)
        kit = _kit(settings, database, box=box, tokens=tokens, hasher=hasher)
        uses, arrivals = KeyUses(database), Arrivals()
        refusals = Refusals(database)
        cache = await stack.enter_async_context(cache_of(settings))
        clickhouse = await stack.enter_async_context(ClickHouse(ClickHouseAddress.of(settings)))
        audit = audit_of(settings, box, clickhouse)
        services = Services(
            settings=settings,
            commands=_command_bus(database, kit, Peppers.of(settings)),
            database=database,
            authenticate=_authenticate(settings, database, tokens, uses),
            extras={
                Tokens: tokens,
                Health: Health(settings, database),
                Trail: Trail(audit.keys, audit.archive),
            }
            | _reading(settings, clickhouse, cache)
            | {Tails: Tails(arrivals)},
            refused=refusals,
        )
        yield Control(
            settings=settings,
            database=database,
            kit=kit,
            services=services,
            events=_event_bus(),
            jobs=_jobs(database, kit, audit, settings),
            api_keys=UnitOfWork(database, ApiKeys),
            usage=UsageCopy(database, clickhouse, settings.clickhouse_database),
            uses=uses,
            arrivals=arrivals,
            refusals=refusals,
            audit=audit,
        )


def _authenticate(
    settings: Settings, database: Database, tokens: Tokens, uses: KeyUses
) -> Callable[[web.Request], Awaitable[Caller]]:
    """People by their access tokens, exporters and scripts by their API keys."""
    by_token = Authenticator(
        database, tokens, Access(database), password_expiry_days=settings.password_expiry_days
    )
    by_key = KeyAuthenticator(
        database, Peppers.of(settings), ClientAddress(settings.api_trusted_proxies), uses
    )

    async def authenticate(request: web.Request) -> Caller:
        if carries_key(request.headers.get):
            return await by_key(request)
        return await by_token(request)

    return authenticate


def _reading(settings: Settings, clickhouse: ClickHouse, cache: Cache) -> dict[type[Any], Any]:
    """What routes that read telemetry reach."""
    engine = Engine(
        clickhouse,
        database=settings.clickhouse_database,
        cache=cache,
        cursors=Cursors.of(settings),
    )
    return {Cache: cache, ClickHouse: clickhouse, Engine: engine}


def _kit(
    settings: Settings,
    database: Database,
    *,
    box: SecretBox,
    tokens: Tokens,
    hasher: PasswordHasher,
) -> Kit:
    return Kit(
        work=UnitOfWork(database, AuthRepositories),
        hasher=hasher,
        policy=password_policy(settings),
        box=box,
        tokens=tokens,
        settings=settings,
    )


def _jobs(database: Database, kit: Kit, audit: Audit, settings: Settings) -> Sequence[JobHandlers]:
    mailer = open_mailer(settings)
    return [
        auth_jobs.job_handlers(kit, mailer),
        api_keys_jobs.job_handlers(database, mailer, settings.app_url),
        audit_jobs.job_handlers(database, audit.keys, audit.checkpoints, mailer, settings.app_url),
    ]


def _command_bus(database: Database, kit: Kit, peppers: Peppers) -> CommandBus:
    core = UnitOfWork(database, CoreRepositories)
    return CommandBus(
        [
            tenancy.handlers(core),
            people.handlers(core),
            roles.handlers(core),
            sign_in.handlers(kit),
            accounts.handlers(kit),
            sessions.handlers(kit),
            api_keys.handlers(UnitOfWork(database, ApiKeys), peppers),
            ingestion_limits.handlers(UnitOfWork(database, IngestionLimits)),
            cors_commands.handlers(UnitOfWork(database, cors_commands.CorsConfigurations)),
            # new contexts go above this line: commands
        ]
    )


def _event_bus() -> EventBus:
    return EventBus(
        EVENTS,
        [
            core_subscribers.subscribers(),
            auth_subscribers.subscribers(),
            auth_jobs.subscribers(),
            api_keys_jobs.subscribers(),
            # new contexts go above this line: subscribers
        ],
    )


def audit_of(settings: Settings, box: SecretBox, clickhouse: ClickHouse) -> Audit:
    """The parts of the audit trail; nothing is opened yet."""
    second_place = None
    if settings.audit_s3_endpoint:
        from control.audit.object_store import ObjectStore  # noqa: PLC0415 - only where one is set

        second_place = ObjectStore(settings)
    return Audit(
        keys=PersonKeys(box),
        archive=Archive(clickhouse, settings.clickhouse_database),
        checkpoints=Checkpoints(settings, second_place),
        contradictions=Contradictions(clickhouse, settings.clickhouse_database),
    )


def secret_box(settings: Settings) -> SecretBox:
    """What secrets are encrypted with: ENCRYPTION_KEYS, or a file of the data folder."""
    if settings.encryption_keys:
        return SecretBox.from_text(settings.encryption_keys)
    return SecretBox.from_file(settings.data_dir / ENCRYPTION_KEY_FILE)


def password_policy(settings: Settings) -> PasswordPolicy:
    """What a password must be like."""
    uppercase, lowercase, number, symbol = (
        text == "true"
        for text in (
            settings.password_require_uppercase,
            settings.password_require_lowercase,
            settings.password_require_number,
            settings.password_require_symbol,
        )
    )
    return PasswordPolicy(
        length_min=settings.password_min_length,
        uppercase=uppercase,
        lowercase=lowercase,
        number=number,
        symbol=symbol,
    )
