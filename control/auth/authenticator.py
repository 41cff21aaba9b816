"""From the bearer token of a request to the caller of this moment."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

from aiohttp import web

from control.auth.domain import unsettled_reason
from control.auth.tokens import Tokens
from shared.caller import Caller
from shared.errors import Forbidden, Unauthenticated
from shared.messaging.events import utc_now
from shared.postgres.connection import Connection
from shared.postgres.database import Database
from shared.security.tokens import TokenKind

# Core's: a user id and the tenant that they name, to the caller.
CallerOf = Callable[[Connection, UUID, UUID | None], Awaitable[Caller]]


class Authenticator:
    """Checks the signature, then the session, then the person: what ended is refused at once."""

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        caller_of: CallerOf,
        *,
        password_expiry_days: int,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._caller_of = caller_of
        self._password_expiry_days = password_expiry_days

    async def __call__(self, request: web.Request) -> Caller:
        """The caller; Unauthenticated without a good token, Forbidden for a foreign tenant."""
        claims = await self._tokens.read(_bearer(request), TokenKind.ACCESS)
        session_id = UUID(str(claims.others["sessionId"]))
        wanted = _wanted_tenant(request)
        async with self._database.lookup() as connection:
            session = await connection.fetchrow("SELECT * FROM session_of($1)", session_id)
            if session is None or str(session["account_id"]) != claims.subject:
                raise Unauthenticated("the session has ended: sign in again")
            caller = await self._caller_of(connection, session["account_id"], wanted)
        return replace(
            caller,
            session_id=session_id,
            has_mfa=session["has_mfa"],
            unsettled=unsettled_reason(
                session["must_change_password"],
                session["password_changed_at"],
                now=utc_now(),
                expiry_days=self._password_expiry_days,
            ),
        )


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send Authorization: Bearer with the access token of a sign-in")
    return token.strip()


def _wanted_tenant(request: web.Request) -> UUID | None:
    text = request.headers.get("X-Tenant-Id", "").strip()
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise Forbidden("X-Tenant-Id is not the id of a tenant") from None
