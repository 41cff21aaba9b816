"""From the API key of a request to the caller of this moment: keys that read.

Refused is what a gateway refuses (ingest.directory), in the same order. PostgreSQL is asked at
every request, so that a key that was revoked reads nothing from then on.
"""

import hmac
from typing import Any, Final

from aiohttp import web

from control.api_keys.domain.keys import PRESETS
from control.api_keys.uses import KeyUses
from shared.caller import Caller, ForeignTenant
from shared.errors import Forbidden, Unauthenticated
from shared.http.client_address import ClientAddress
from shared.postgres.database import Database
from shared.security.credentials import Credentials, credentials_of, is_within
from shared.security.peppers import Peppers

# Compared with where there is no such key: it takes as long, so ids cannot be guessed by time.
_NO_HASH: Final = bytes(32)
_READS: Final = frozenset(PRESETS["readOnly"])
# Of people a permission of its own; a key that may read a signal may ask about it in any way.
_QUERIES: Final = "queries:read"


class KeyAuthenticator:
    """Checks the key, then where it comes from, then the tenant."""

    def __init__(
        self, database: Database, peppers: Peppers, addresses: ClientAddress, uses: KeyUses
    ) -> None:
        self._database = database
        self._peppers = peppers
        self._addresses = addresses
        self._uses = uses

    async def __call__(self, request: web.Request) -> Caller:
        """The caller; Unauthenticated without a key that works, Forbidden where it may not read."""
        credentials = credentials_of(
            lambda name: ",".join(request.headers.getall(name, ())) or None,
            self._addresses.of(request),
        )
        rows = await self._database.look_up(
            "SELECT * FROM reader_of($1, $2)", credentials.key_id, credentials.tenant_id
        )
        row = rows[0] if rows else None
        self._check_key(row, credentials)
        caller = _caller_of(row, credentials)
        _check_tenant(row, credentials, caller)
        self._uses.note(caller.key_id, caller.telemetry_id)
        return caller

    def _check_key(self, row: Any, credentials: Credentials) -> None:
        key_id = credentials.key_id
        given = self._peppers.hash(credentials.secret, row["pepper_id"] if row else None)
        matches = hmac.compare_digest(given, row["secret_hash"] if row else _NO_HASH)
        if not row or not matches:
            raise Unauthenticated("unknown API key, or wrong secret")
        if row["has_ended"]:
            raise Unauthenticated(f"the API key {key_id} is revoked or expired: use a new one")
        networks = tuple(row["allowed_networks"])
        if networks and not is_within(credentials.address, networks):
            raise Forbidden(f"the API key {key_id} may not be used from {credentials.address}")


def _caller_of(row: Any, credentials: Credentials) -> Caller:
    permissions = frozenset(row["permissions"])
    return Caller(
        kind="api_key",
        key_id=credentials.key_id or "",
        organization_id=row["organization_id"],
        workspace_id=row["workspace_id"],
        tenant_id=row["tenant_id"],
        telemetry_id=row["telemetry_id"] or "",
        permissions=permissions | {_QUERIES} if permissions & _READS else permissions,
    )


def _check_tenant(row: Any, credentials: Credentials, caller: Caller) -> None:
    """ForeignTenant when a header names another one, in the same words whether it exists or not."""
    wanted = credentials.tenant_id
    if wanted is not None and wanted not in (str(row["tenant_id"]), row["telemetry_id"]):
        raise ForeignTenant(caller, wanted)
    if row["tenant_id"] is None:
        raise Forbidden(
            "this API key is of a whole workspace: name one of its tenants in X-Tenant-Id"
        )
    if credentials.workspace_id not in (None, str(row["workspace_id"])):
        raise Forbidden("X-Workspace-Id names another workspace than that of the API key")
    if not row["is_active"]:
        raise Forbidden("the tenant is deactivated: its data is not shown")
