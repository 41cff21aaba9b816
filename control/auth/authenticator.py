"""From the bearer token of a request to the caller of this moment."""

from dataclasses import replace
from typing import Any, Final, Protocol
from uuid import UUID

from aiohttp import web

from control.auth.domain import unsettled_reason
from control.auth.tokens import Tokens
from shared.caller import Caller
from shared.errors import Forbidden, Unauthenticated
from shared.messaging.events import utc_now
from shared.postgres.database import Database
from shared.security.tokens import TokenKind

# All that is asked for at every request, in a single exchange.
_SESSION: Final = """
    SELECT * FROM session_of($1) AS session
      LEFT JOIN LATERAL person_in(session.account_id, $2) AS person ON true
"""


class People(Protocol):
    """Core's: who somebody is, and what they may do."""

    def tenant_in_question(self, user_id: UUID, wanted_tenant_id: UUID | None) -> UUID | None:
        """The tenant that `person_in` is asked about."""

    async def caller_of(
        self, user_id: UUID, person: Any, *, wanted_tenant_id: UUID | None
    ) -> Caller:
        """The caller, from what `person_in` said."""


class Authenticator:
    """Checks the signature, then the session, then the person: what ended is refused at once."""

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        people: People,
        *,
        password_expiry_days: int,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._people = people
        self._password_expiry_days = password_expiry_days

    async def __call__(self, request: web.Request) -> Caller:
        """The caller; Unauthenticated without a good token, Forbidden for a foreign tenant."""
        claims = await self._tokens.read(_bearer(request), TokenKind.ACCESS)
        session_id, user_id = UUID(str(claims.others["sessionId"])), UUID(claims.subject)
        wanted = _wanted_tenant(request)
        place = self._people.tenant_in_question(user_id, wanted)
        sessions = await self._database.look_up(_SESSION, session_id, place)
        if not sessions or sessions[0]["account_id"] != user_id:
            raise Unauthenticated("the session has ended: sign in again")
        (session,) = sessions
        caller = await self._people.caller_of(user_id, session, wanted_tenant_id=wanted)
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
