"""Who may write: credentials checked against the tenants and keys in memory."""

import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from time import time
from typing import Final

from ingest.credentials import Credentials
from ingest.signals import Signal
from shared.directory import (
    DEFAULT_TENANT,
    PLATFORM_KEY_ID,
    PLATFORM_RETENTION_DAYS,
    PLATFORM_TENANT,
    new_tenant,
    platform_secret,
)
from shared.directory.directory_pb2 import Key
from shared.directory.state import DirectoryState
from shared.errors import Forbidden, Unauthenticated
from shared.security.peppers import Peppers

_PERMISSION: Final = {signal: f"{signal.value}:write" for signal in Signal}
_RETENTION: Final = {signal: f"{signal.value}_retention_days" for signal in Signal}
NETWORKS_CACHED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends: the tenant, how long the signal at hand is kept for it, and the key ("": none)."""

    tenant_id: str
    retention_days: int
    key_id: str = ""


class Directory:
    """Checks credentials against the *state* in memory; no I/O, constant-time comparison.

    *keyless_tenant* is the tenant of requests without any credentials (embedded mode on loopback
    only), or None to refuse them. *clock* gives Unix seconds.
    """

    def __init__(
        self,
        *,
        peppers: Peppers,
        keyless_tenant: str | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self.state = DirectoryState()
        # How far the control plane's clock is ahead of ours: keys end by that one.
        self.clock_offset_seconds = 0.0
        self._peppers = peppers
        self._keyless_tenant = keyless_tenant
        self._clock = clock
        # A comparison against it costs as much as one against a real hash: no oracle for key ids.
        self._no_key = Key(secret_hash=bytes(32), pepper_id=peppers.current_id)
        self._platform_key = Key(
            id=PLATFORM_KEY_ID,
            tenant=PLATFORM_TENANT,
            secret_hash=peppers.hash(platform_secret(peppers.current)),
            pepper_id=peppers.current_id,
            permissions=_PERMISSION.values(),
            works_until=1 << 62,
        )
        self._platform = new_tenant(
            PLATFORM_TENANT, dict.fromkeys(map(str, Signal), PLATFORM_RETENTION_DAYS)
        )

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        """The principal of *credentials*; Unauthenticated or Forbidden when there is none."""
        name = self._tenant_of(credentials, signal)
        if credentials.tenant_id is not None and credentials.tenant_id != name:
            raise Forbidden("X-Tenant-Id names another tenant than the API key belongs to")
        tenant = self.state.tenants.get(name)
        if tenant is None and name == PLATFORM_TENANT:
            tenant = self._platform
        if tenant is None:
            raise Forbidden(f"tenant {name!r} does not exist any more")
        if not tenant.is_active:
            raise Forbidden(f"tenant {name!r} is deactivated: its data is not taken")
        return Principal(name, getattr(tenant, _RETENTION[signal]), credentials.key_id or "")

    def _tenant_of(self, credentials: Credentials, signal: Signal) -> str:
        if credentials.key_id is None:
            if self._keyless_tenant is None:
                raise Unauthenticated(
                    "an API key is needed: send 'Authorization: Bearer <key id>:<secret>'"
                )
            return self._keyless_tenant
        key = self.state.key(credentials.key_id)
        if key is None and credentials.key_id == PLATFORM_KEY_ID:
            key = self._platform_key
        held = key or self._no_key
        given = self._peppers.hash(credentials.secret, held.pepper_id)
        matches = hmac.compare_digest(given, held.secret_hash)
        if key is None or not matches:
            raise Unauthenticated("unknown API key, or wrong secret")
        if key.has_ended or self._clock() + self.clock_offset_seconds >= key.works_until:
            raise Unauthenticated(f"the API key {key.id} is revoked or expired: use a new one")
        if key.allowed_networks and not _is_within(
            credentials.address, tuple(key.allowed_networks)
        ):
            raise Forbidden(f"the API key {key.id} may not be used from {credentials.address}")
        if _PERMISSION[signal] not in key.permissions:
            raise Forbidden(f"the API key {key.id} may not write {signal.value}")
        return key.tenant


def keyless_tenant(*, embedded: bool, host: str) -> str | None:
    """The default tenant where an unconfigured SDK may just send: embedded and loopback only."""
    return DEFAULT_TENANT if embedded and host in {"127.0.0.1", "::1", "localhost"} else None


@lru_cache(maxsize=NETWORKS_CACHED_MAX)
def _is_within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped is not None:
        client = client.ipv4_mapped
    return any(client in ipaddress.ip_network(network) for network in networks)
