"""Who may write: credentials checked against the tenants and keys in memory."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Final

from ingest.signals import Signal
from shared.directory import (
    DEFAULT_TENANT,
    PLATFORM_KEY_ID,
    PLATFORM_RETENTION_DAYS,
    PLATFORM_TENANT,
    RETENTION_CLASSES_DAYS,
    new_tenant,
    platform_secret,
)
from shared.directory.directory_pb2 import Key, Tenant
from shared.directory.state import DirectoryState
from shared.errors import Forbidden, Unauthenticated
from shared.security.credentials import Credentials, is_within
from shared.security.peppers import Peppers

_PERMISSION: Final = {signal: f"{signal.value}:write" for signal in Signal}
_RETENTION: Final = {signal: f"{signal.value}_retention_days" for signal in Signal}
PRINCIPALS_REMEMBERED_MAX: Final = 10_000
_SCOPES: Final = {"X-Tenant-Id": "tenant", "X-Workspace-Id": "workspace"}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends: the tenant, how long the signal at hand is kept for it, its workspace, the key.

    Without a tenant (''), each resource names its own, one of the workspace's. A workspace that is
    '' is not known; no key, where none is needed.
    """

    tenant_id: str
    retention_days: int
    workspace_id: str = ""
    # As the directory has them, with their limits; no key where none is needed.
    key: Key | None = None
    tenant: Tenant | None = None

    @property
    def key_id(self) -> str:
        """The key's id, '' without one."""
        return "" if self.key is None else self.key.id


class TenantContradiction(Forbidden):
    """A header names another tenant, or workspace, than the key of *tenant_id* ('': of a whole
    workspace) writes for; whether there is such a one is not told.
    """

    reason = "tenant_contradiction"

    def __init__(self, header: str, tenant_id: str) -> None:
        super().__init__(f"{header} names another {_SCOPES[header]} than the API key writes for")
        self.tenant_id = tenant_id


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
        # By what was asked: each holds as long as the directory has the very entries behind it.
        self._remembered: dict[tuple[str | None, ...], Principal] = {}

    def now(self) -> float:
        """Unix seconds by the control plane's clock."""
        return self._clock() + self.clock_offset_seconds

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        """The principal of *credentials*; Unauthenticated or Forbidden when there is none."""
        key = self._key_of(credentials)
        asked = credentials.key_id, signal, credentials.tenant_id, credentials.workspace_id
        known = self._remembered.get(asked)
        if (
            known is not None
            and known.key is key
            and known.tenant is self.state.tenants.get(known.tenant_id)
            and (key is None or self.now() < key.works_until)
        ):
            return known
        principal = self._principal_of(key, credentials, signal)
        if key is None or not key.allowed_networks:
            if len(self._remembered) >= PRINCIPALS_REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[asked] = principal
        return principal

    def _principal_of(self, key: Key | None, credentials: Credentials, signal: Signal) -> Principal:
        if key is not None:
            self._check(key, credentials, signal)
            if key.workspace:
                return self._of_workspace(key, credentials, signal)
        name = self._keyless_tenant if key is None else key.tenant
        if name is None:
            raise Unauthenticated(
                "an API key is needed: send 'Authorization: Bearer <key id>:<secret>'"
            )
        if credentials.tenant_id is not None and credentials.tenant_id != name:
            raise TenantContradiction("X-Tenant-Id", name)
        tenant = self.state.tenants.get(name)
        if tenant is None and name == PLATFORM_TENANT:
            tenant = self._platform
        if tenant is None:
            raise Forbidden(f"tenant {name!r} does not exist any more")
        wanted_workspace = credentials.workspace_id
        if wanted_workspace is not None and tenant.workspace not in ("", wanted_workspace):
            raise TenantContradiction("X-Workspace-Id", name)
        return _principal_of(tenant, signal, key)

    def tenant_within(self, principal: Principal, name: str, signal: Signal) -> Principal:
        """For a resource that names a tenant: that one, if it is of the principal's workspace and
        active, else the *principal*, who has no tenant.
        """
        tenant = self.state.tenants.get(name)
        if tenant is None or tenant.workspace != principal.workspace_id or not tenant.is_active:
            return principal
        return _principal_of(tenant, signal, principal.key)

    def _of_workspace(self, key: Key, credentials: Credentials, signal: Signal) -> Principal:
        """Who sends with a key of a workspace: for the tenant that a header names, or for each that
        resources name.
        """
        if credentials.workspace_id not in (None, key.workspace):
            raise TenantContradiction("X-Workspace-Id", "")
        if credentials.tenant_id is None:
            return Principal("", RETENTION_CLASSES_DAYS[0], key.workspace, key)
        tenant = self.state.tenants.get(credentials.tenant_id)
        if tenant is None or tenant.workspace != key.workspace:
            raise TenantContradiction("X-Tenant-Id", "")
        return _principal_of(tenant, signal, key)

    def _key_of(self, credentials: Credentials) -> Key | None:
        """The key, whose secret was given; None for a request without one."""
        if credentials.key_id is None:
            return None
        key = self.state.key(credentials.key_id)
        if key is None and credentials.key_id == PLATFORM_KEY_ID:
            key = self._platform_key
        held = key or self._no_key
        pepper_id = held.pepper_id
        given = credentials.hashes.get(pepper_id)
        if given is None:
            given = self._peppers.hash(credentials.secret, pepper_id)
            credentials.hashes[pepper_id] = given
        matches = hmac.compare_digest(given, held.secret_hash)
        if key is None or not matches:
            raise Unauthenticated("unknown API key, or wrong secret")
        return key

    def _check(self, key: Key, credentials: Credentials, signal: Signal) -> None:
        """Unauthenticated or Forbidden, when it may not write the signal, or from there."""
        if key.has_ended or self.now() >= key.works_until:
            raise Unauthenticated(f"the API key {key.id} is revoked or expired: use a new one")
        if key.allowed_networks and not is_within(credentials.address, tuple(key.allowed_networks)):
            raise Forbidden(f"the API key {key.id} may not be used from {credentials.address}")
        if _PERMISSION[signal] not in key.permissions:
            raise Forbidden(f"the API key {key.id} may not write {signal.value}")
        if not key.tenant and not key.workspace:
            raise Forbidden(f"the API key {key.id} belongs to nothing that this gateway knows")


def _principal_of(tenant: Tenant, signal: Signal, key: Key | None) -> Principal:
    """Forbidden, when the tenant is deactivated."""
    if not tenant.is_active:
        raise Forbidden(f"tenant {tenant.name!r} is deactivated: its data is not taken")
    retention_days = getattr(tenant, _RETENTION[signal])
    return Principal(tenant.name, retention_days, tenant.workspace, key, tenant)


def keyless_tenant(*, embedded: bool, host: str) -> str | None:
    """The default tenant where an unconfigured SDK may just send: embedded and loopback only."""
    return DEFAULT_TENANT if embedded and host in {"127.0.0.1", "::1", "localhost"} else None
