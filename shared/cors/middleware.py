"""CORS for browsers: which pages of other origins may call the API.

Pages of the origins in CORS_ORIGIN may, whoever uses them. Beside them each tenant has rules of its
own (shared.cors.api). A preflight says neither who nor which tenant, so it passes when anybody's
rule allows it; the request itself is read by the page only when the environment or a rule of the
caller's tenant allows it. Requests without a caller, such as a sign-in, go by the preflight's rule.

Tokens travel in a header, never in a cookie: a preflight that passes gives a page nothing that it
does not hold already. A WebSocket has no preflight, so its handshake is judged like one; pages of
the API's own host need no rule.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from shared.caller import Caller
from shared.cors.matching import ANY, VARY, CorsRules
from shared.errors import Forbidden, Invalid
from shared.http.endpoint import CALLER
from shared.http.problems import problem_response
from shared.http.request_id import request_id_of
from shared.http.sockets import asks_for_socket
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM
from shared.repeating import repeat
from shared.settings import Settings

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Tenant-Id")
EXPOSED: Final = "ETag, Retry-After, X-Cache, X-Request-Id, X-RateLimit-Remaining"
PREFLIGHT_SECONDS: Final = 86_400
# A change of a tenant's rules is in force on every process after so long.
REFRESH_SECONDS: Final = 5.0
# Of all tenants together, the oldest first; each is a few hundred bytes.
CONFIGURATIONS_MAX: Final = 20_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Index:
    """Rules by the origins that they name, so that a request looks at few of them."""

    named: dict[str, list[CorsRules]] = field(default_factory=dict)
    patterns: list[CorsRules] = field(default_factory=list)

    def add(self, rules: CorsRules) -> None:
        for origin in rules.origins:
            if ANY in origin:
                self.patterns.append(rules)
            else:
                self.named.setdefault(origin, []).append(rules)

    def candidates(self, origin: str) -> Iterable[CorsRules]:
        yield from self.named.get(origin, ())
        yield from self.patterns


class TenantRules:
    """The active rules of all tenants in memory; without the database, the last that were read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._all = _Index()
        self._by_tenant: dict[UUID, _Index] = {}
        self._state: object = None

    def candidates(self, origin: str, caller: Caller | None) -> Iterable[CorsRules]:
        """Rules that may allow *origin* to a caller; without one, those of everybody."""
        if caller is None or caller.user_id is None:
            return self._all.candidates(origin)
        tenant = self._by_tenant.get(caller.tenant_id) if caller.tenant_id else None
        return tenant.candidates(origin) if tenant else ()

    async def refresh(self) -> None:
        """Read the rules if any changed since the last time."""
        async with self._database.read(PLATFORM) as connection:
            state = await connection.fetchrow(
                "SELECT count(*), max(updated_at), sum(version) FROM cors_configurations"
            )
            if state == self._state:
                return
            rows = await connection.fetch(
                """
                SELECT tenant_id, origins, methods, headers, credentials, max_age
                  FROM cors_configurations WHERE is_active ORDER BY created_at, id LIMIT $1
                """,
                CONFIGURATIONS_MAX,
            )
        everybody, by_tenant = _Index(), dict[UUID, _Index]()
        for row in rows:
            try:
                rules = CorsRules(
                    row["origins"],
                    row["methods"],
                    row["headers"],
                    credentials=row["credentials"],
                    max_age_seconds=row["max_age"],
                )
            except Invalid as error:
                logger.error("a CORS configuration of %s is left out: %s", row["tenant_id"], error)
                continue
            everybody.add(rules)
            by_tenant.setdefault(row["tenant_id"], _Index()).add(rules)
        self._all, self._by_tenant, self._state = everybody, by_tenant, state

    async def follow(self, stopping: asyncio.Event) -> None:
        """Refresh again and again; while the database is away, the last known rules stand."""
        await repeat(
            self.refresh,
            every_seconds=REFRESH_SECONDS,
            stopping=stopping,
            failing="CORS rules stay as they were",
        )


def cors_middleware(settings: Settings, tenants: TenantRules) -> Middleware:
    """Adds the headers for allowed origins, and answers their preflight requests."""
    ours = _rules_of_environment(settings)

    def allowed(
        origin: str, method: str, caller: Caller | None, headers: str | None = None
    ) -> dict[str, str] | None:
        for rules in (*ours, *tenants.candidates(origin, caller)):
            if (answer := rules.answer(origin, method, headers)) is not None:
                return answer
        return None

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is None:
            return await handler(request)
        wanted = request.headers.get("Access-Control-Request-Method")
        if request.method == "OPTIONS" and wanted is not None:
            asked = request.headers.get("Access-Control-Request-Headers", "")
            headers = allowed(origin, wanted, None, asked)
            return (
                _refused(request) if headers is None else web.Response(status=204, headers=headers)
            )
        is_socket = asks_for_socket(request) and origin.partition("://")[2] != request.host
        if is_socket and allowed(origin, "GET", None, "Authorization") is None:
            return _refused(request)
        response = await handler(request)
        headers = allowed(origin, request.method, request.get(CALLER))
        if not response.prepared:
            # Without more than this the browser keeps the answer from the page.
            response.headers.update(headers or VARY)
            if headers is not None:
                response.headers["Access-Control-Expose-Headers"] = EXPOSED
        return response

    return answer


def _refused(request: web.Request) -> web.Response:
    refusal = Forbidden("pages of this origin may not call the API: see CORS_ORIGIN and /cors")
    refused = problem_response(request, refusal, request_id_of(request))
    refused.headers.update(VARY)
    return refused


def _rules_of_environment(settings: Settings) -> Sequence[CorsRules]:
    origins = [one.strip() for one in settings.cors_origin.split(",") if one.strip()]
    if not origins:
        return ()
    return (CorsRules(origins, METHODS, HEADERS, max_age_seconds=PREFLIGHT_SECONDS),)
