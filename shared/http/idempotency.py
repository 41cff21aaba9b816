"""Idempotency-Key: a POST that is sent again is carried out once (IETF draft).

The first request with a key claims a row; its transaction marks the row when it commits, and its
answer is kept for a day. A repeat gets the kept answer, or 409 while the first is still at work. A
process that died after its commit, but before it kept the answer, leaves a marked row: a repeat is
told that it was carried out. One that died before its commit leaves a row that goes stale.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from shared.errors import Conflict, Invalid, KeyReused, Unavailable
from shared.postgres.claims import Claim, claimed
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM

HEADER: Final = "Idempotency-Key"
KEPT_HOURS: Final = 24
# No request runs longer; whoever claimed the key before that is dead.
CLAIM_SECONDS_MAX: Final = 60
KEPT_BYTES_MAX: Final = 262_144
_FIT: Final = re.compile(r'"?([A-Za-z0-9._:-]{1,128})"?')
_KEPT_HEADERS: Final = ("Content-Type", "Location", "ETag", "Cache-Control")

Respond = Callable[[], Awaitable[web.StreamResponse]]


class IdempotentPosts:
    """Carries out each key once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def once(
        self,
        request: web.Request,
        owner: UUID | None,
        body: bytes,
        respond: Respond,
        *,
        is_kept: bool = True,
    ) -> web.StreamResponse:
        """The answer of *respond*, or the one that the same key got before.

        One that is not kept, because a secret is in it, is told once: a repeat is a Conflict.
        """
        match = _FIT.fullmatch(request.headers[HEADER])
        if match is None:
            raise Invalid(f"{HEADER}: give 1 to 128 letters, digits and . _ : -")
        if owner is None:
            raise Invalid(f"{HEADER} is for requests of people who have signed in")
        claim = Claim(owner, match[1])
        route = f"{request.method} {request.path}"
        digest = hashlib.sha256(body).digest()
        kept = await self._claim(claim, route, digest)
        if kept is not None:
            return kept
        try:
            with claimed(claim):
                response = await respond()
        except BaseException:
            # Nothing was committed, so the key may be used again; a marked row stays.
            await asyncio.shield(self._give_back(claim))
            raise
        if is_kept or response.status >= 400:
            await self._keep(claim, response)
        return response

    async def _claim(self, claim: Claim, route: str, digest: bytes) -> web.Response | None:
        async with self._database.begin(PLATFORM) as connection:
            row = await connection.fetchrow(
                f"""
                INSERT INTO idempotency_keys AS known (owner_id, key, route, request_digest)
                VALUES ($1, $2, $3, $4)
                ON CONFLICT (owner_id, key) DO UPDATE
                   SET route = excluded.route, request_digest = excluded.request_digest,
                       status = NULL, headers = NULL, body = NULL, committed_id = NULL,
                       created_at = now()
                 WHERE known.created_at < now() - interval '{KEPT_HOURS} hours'
                    OR (known.status IS NULL AND known.committed_id IS NULL
                        AND known.created_at < now() - interval '{CLAIM_SECONDS_MAX} seconds')
                RETURNING owner_id
                """,  # noqa: S608 - constants of this module
                claim.owner_id,
                claim.key,
                route,
                digest,
            )
            if row is not None:
                return None
            kept = await connection.fetchrow(
                "SELECT * FROM idempotency_keys WHERE owner_id = $1 AND key = $2",
                claim.owner_id,
                claim.key,
            )
        return _replayed(kept, route, digest)

    async def _keep(self, claim: Claim, response: web.StreamResponse) -> None:
        body = response.body if isinstance(response, web.Response) else None
        if not isinstance(body, bytes | None) or len(body or b"") > KEPT_BYTES_MAX:
            return
        headers = {
            name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers
        }
        async with self._database.begin(PLATFORM) as connection:
            await connection.execute(
                """
                UPDATE idempotency_keys SET status = $3, headers = $4, body = $5
                 WHERE owner_id = $1 AND key = $2
                """,
                claim.owner_id,
                claim.key,
                response.status,
                headers,
                body or b"",
            )

    async def _give_back(self, claim: Claim) -> None:
        try:
            async with self._database.begin(PLATFORM) as connection:
                await connection.execute(
                    """
                    DELETE FROM idempotency_keys
                     WHERE owner_id = $1 AND key = $2 AND committed_id IS NULL AND status IS NULL
                    """,
                    claim.owner_id,
                    claim.key,
                )
        except Unavailable:
            return  # it goes stale by itself


def _replayed(kept: Any, route: str, digest: bytes) -> web.Response:
    if kept is None:
        raise Conflict("the first request with this key failed in this moment: send it again")
    if kept["route"] != route or kept["request_digest"] != digest:
        raise KeyReused(f"{HEADER} was used for another request: take a new one")
    if kept["status"] is not None:
        headers = {**kept["headers"], "Idempotency-Replayed": "true"}
        return web.Response(status=kept["status"], headers=headers, body=kept["body"])
    if kept["committed_id"] is not None:
        raise Conflict(
            "this request was carried out, but its answer is not kept: "
            f"it concerned {kept['committed_id']}"
        )
    raise Conflict("the first request with this key is still at work: ask again in a second")


async def prune(connection: Any) -> int:
    """Delete keys older than a day; how many."""
    status = await connection.execute(
        f"DELETE FROM idempotency_keys WHERE created_at < now() - interval '{KEPT_HOURS} hours'"  # noqa: S608
    )
    return int(status.split()[-1])
