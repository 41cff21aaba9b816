"""Who may write: the gateway's view of tenants and keys, and where it comes from.

`Directory` answers from memory only. `SnapshotFile` is its source at this stage: the file that
`telemetryflow key` edits, looked at twice a second, so a revocation is in force within a second.
"""

import asyncio
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Final

from ingest import metrics
from ingest.credentials import Credentials
from ingest.signals import Signal
from shared.directory import (
    DEFAULT_TENANT,
    Snapshot,
    hash_secret,
    load_snapshot,
    utc_now,
    with_platform,
)
from shared.errors import Forbidden, Invalid, Unauthenticated

POLL_SECONDS: Final = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends: the tenant, and how long the signal at hand is kept for it."""

    tenant_id: str
    retention_days: int


class Directory:
    """Checks credentials against the snapshot in memory; no I/O, constant-time comparison.

    *keyless_tenant* is the tenant of requests without any credentials (embedded mode on loopback
    only), or None to refuse them.
    """

    def __init__(
        self,
        *,
        pepper: bytes,
        keyless_tenant: str | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._pepper = pepper
        self._keyless_tenant = keyless_tenant
        self._clock = clock
        self._snapshot = with_platform(Snapshot(), pepper)
        # A comparison against it costs as much as one against a real hash: no oracle for key ids.
        self._no_hash = bytes(32)

    def replace(self, snapshot: Snapshot) -> None:
        """Put *snapshot* in force."""
        self._snapshot = with_platform(snapshot, self._pepper)
        metrics.DIRECTORY_REVISION.set(snapshot.revision)

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        """The principal of *credentials*; Unauthenticated or Forbidden when there is none."""
        tenant_id = self._tenant_of(credentials, signal)
        if credentials.tenant_id is not None and credentials.tenant_id != tenant_id:
            raise Forbidden("X-Tenant-Id names another tenant than the API key belongs to")
        tenant = self._snapshot.tenants.get(tenant_id)
        if tenant is None:
            raise Forbidden(f"tenant {tenant_id!r} does not exist any more")
        return Principal(tenant_id, tenant.retention_days[signal.value])

    def _tenant_of(self, credentials: Credentials, signal: Signal) -> str:
        if credentials.key_id is None:
            if self._keyless_tenant is None:
                raise Unauthenticated(
                    "an API key is needed: send 'Authorization: Bearer <key id>:<secret>'"
                )
            return self._keyless_tenant
        key = self._snapshot.keys.get(credentials.key_id)
        expected = key.secret_hash if key else self._no_hash
        matches = hmac.compare_digest(hash_secret(self._pepper, credentials.secret), expected)
        if key is None or not matches:
            raise Unauthenticated("unknown API key, or wrong secret")
        if not key.usable_at(self._clock()):
            state = "revoked" if key.revoked_at else "expired"
            raise Unauthenticated(f"the API key {key.id} is {state}: create a new one")
        if signal.value not in key.signals:
            raise Forbidden(f"the API key {key.id} may not write {signal.value}")
        return key.tenant_id


class SnapshotFile:
    """Keeps a `Directory` equal to a snapshot file, and goes on with the last good one."""

    def __init__(self, path: Path, directory: Directory) -> None:
        self._path = path
        self._directory = directory
        self._version: tuple[int, int, int] | None = None
        self._current_at = monotonic()
        metrics.DIRECTORY_AGE_SECONDS.set_function(lambda: monotonic() - self._current_at)

    def load(self) -> None:
        """Read the file if it changed; Invalid or OSError when it cannot be read."""
        status = self._path.stat()
        version = (status.st_mtime_ns, status.st_ino, status.st_size)
        if version != self._version:
            self._directory.replace(load_snapshot(self._path))
            self._version = version
        self._current_at = monotonic()

    async def follow(self) -> None:
        """Reload on every change until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                self.load()
            except (Invalid, OSError) as error:
                logger.error("the directory is kept as it was: %s", error)


def keyless_tenant(*, embedded: bool, host: str) -> str | None:
    """The default tenant where an unconfigured SDK may just send: embedded and loopback only."""
    return DEFAULT_TENANT if embedded and host in {"127.0.0.1", "::1", "localhost"} else None
