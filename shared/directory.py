"""The directory: tenants and API keys as the data plane knows them.

The control plane owns this data; gateways hold a snapshot of it in memory and in a file, so that a
key is checked without any network. A key has an id (`tfk_` + 32 hex) and a secret (`tfs_` + 64
hex, 256 bits). Only HMAC-SHA-256(pepper, secret) is kept: with 256 bits of entropy a slow password
hash would add nothing but a lever for denial of service.
"""

import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from shared.errors import Conflict, Invalid, NotFound
from shared.settings import Settings

# Each class is a partition of every table and day, so there are few (ClickHouse keeps parts apart).
RETENTION_CLASSES_DAYS: Final = (3, 7, 14, 30, 90, 395)
DEFAULT_TENANT: Final = "default"
# What the product sends about itself, with a key that every installation has.
PLATFORM_TENANT: Final = "platform"
PLATFORM_KEY_ID: Final = f"tfk_{0:032x}"
PLATFORM_RETENTION_DAYS: Final = 7
PEPPER_FILE: Final = "secrets/api-key-pepper"
SIGNALS: Final = ("traces", "metrics", "logs")
KEYS_MAX: Final = 200_000
NAME_CHARACTERS_MAX: Final = 100
KEY_DAYS_DEFAULT: Final = 365
KEY_DAYS_MAX: Final = 730
TENANT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant and for how many days each of its signals is kept (values of the classes above)."""

    id: str
    retention_days: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret; `signals` are those that it may write. Times are aware UTC."""

    id: str
    tenant_id: str
    name: str
    secret_hash: bytes
    signals: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    def usable_at(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and now < self.expires_at


@dataclass(frozen=True)
class Snapshot:
    """All tenants and keys at one revision; each change makes a new one with the next revision."""

    revision: int = 0
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    keys: Mapping[str, ApiKey] = field(default_factory=dict)

    def with_tenant(self, tenant: Tenant) -> "Snapshot":
        """The snapshot with *tenant* added or replaced."""
        tenants = {**self.tenants, tenant.id: tenant}
        return replace(self, revision=self.revision + 1, tenants=tenants)

    def with_key(self, key: ApiKey) -> "Snapshot":
        """The snapshot with *key* added or replaced."""
        return replace(self, revision=self.revision + 1, keys={**self.keys, key.id: key})


def retention_class(days: int) -> int:
    """The smallest class that keeps data for at least *days*."""
    for candidate in RETENTION_CLASSES_DAYS:
        if candidate >= days > 0:
            return candidate
    raise Invalid(f"retention of {days} days: choose 1 to {RETENTION_CLASSES_DAYS[-1]}")


def new_tenant(tenant_id: str, retention_days: Mapping[str, int]) -> Tenant:
    """A tenant with its retention rounded up to classes; Invalid when the id is not usable."""
    if not TENANT_ID.fullmatch(tenant_id):
        raise Invalid(
            f"tenant id {tenant_id!r}: use 1 to 64 letters, digits, '-' and '_', "
            "beginning with a letter or digit"
        )
    classes = {signal: retention_class(retention_days[signal]) for signal in SIGNALS}
    return Tenant(tenant_id, classes)


def hash_secret(pepper: bytes, secret: str) -> bytes:
    """HMAC-SHA-256 of a key's secret."""
    return hmac.digest(pepper, secret.encode(), hashlib.sha256)


def platform_secret(pepper: bytes) -> str:
    """The secret of the product's own key: whoever holds the pepper can make it."""
    return f"tfs_{hmac.digest(pepper, b'telemetry of the product itself', hashlib.sha256).hex()}"


def with_platform(snapshot: Snapshot, pepper: bytes) -> Snapshot:
    """The same revision, with the product's own tenant and key."""
    tenant = new_tenant(PLATFORM_TENANT, dict.fromkeys(SIGNALS, PLATFORM_RETENTION_DAYS))
    key = ApiKey(
        id=PLATFORM_KEY_ID,
        tenant_id=PLATFORM_TENANT,
        name="the product itself",
        secret_hash=hash_secret(pepper, platform_secret(pepper)),
        signals=SIGNALS,
        created_at=datetime.min.replace(tzinfo=UTC),
        expires_at=datetime.max.replace(tzinfo=UTC),
    )
    return replace(
        snapshot,
        tenants={PLATFORM_TENANT: tenant, **snapshot.tenants},
        keys={**snapshot.keys, PLATFORM_KEY_ID: key},
    )


def create_key(
    snapshot: Snapshot,
    *,
    tenant_id: str,
    name: str,
    pepper: bytes,
    now: datetime,
    signals: Iterable[str] = SIGNALS,
    expires_in_days: int = KEY_DAYS_DEFAULT,
) -> tuple[Snapshot, ApiKey, str]:
    """A new key: the new snapshot, the key, and its secret, which exists nowhere else."""
    chosen = tuple(signals)
    if tenant_id not in snapshot.tenants:
        raise NotFound(f"tenant {tenant_id!r} does not exist")
    if not 0 < len(name) <= NAME_CHARACTERS_MAX:
        raise Invalid(f"a key's name has 1 to {NAME_CHARACTERS_MAX} characters")
    if unknown := set(chosen) - set(SIGNALS):
        raise Invalid(f"unknown signals {', '.join(sorted(unknown))}: use {', '.join(SIGNALS)}")
    if not chosen or not 0 < expires_in_days <= KEY_DAYS_MAX:
        raise Invalid(f"a key writes at least one signal and lasts 1 to {KEY_DAYS_MAX} days")
    if len(snapshot.keys) >= KEYS_MAX:
        raise Conflict(f"the directory is full: {KEYS_MAX} keys")
    secret = f"tfs_{secrets.token_hex(32)}"
    key = ApiKey(
        id=f"tfk_{secrets.token_hex(16)}",
        tenant_id=tenant_id,
        name=name,
        secret_hash=hash_secret(pepper, secret),
        signals=chosen,
        created_at=now,
        expires_at=now + timedelta(days=expires_in_days),
    )
    return snapshot.with_key(key), key, secret


def revoke_key(snapshot: Snapshot, key_id: str, *, now: datetime) -> Snapshot:
    """The snapshot with the key revoked from *now* on; revoking twice changes nothing."""
    key = snapshot.keys.get(key_id)
    if key is None:
        raise NotFound(f"key {key_id} does not exist")
    if key.revoked_at is not None:
        return snapshot
    return snapshot.with_key(replace(key, revoked_at=now))


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the file in one step, readable by its owner only; a reader never sees a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "format": _FORMAT,
        "revision": snapshot.revision,
        "tenants": [
            {"id": tenant.id, "retentionDays": dict(tenant.retention_days)}
            for tenant in snapshot.tenants.values()
        ],
        "keys": [_key_to_json(key) for key in snapshot.keys.values()],
    }
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot; Invalid when the file is not one, FileNotFoundError when there is none."""
    try:
        document = orjson.loads(path.read_bytes())
        if document["format"] != _FORMAT:
            raise Invalid(f"{path}: format {document['format']} is not {_FORMAT}")
        tenants = [new_tenant(entry["id"], entry["retentionDays"]) for entry in document["tenants"]]
        keys = [_key_from_json(entry) for entry in document["keys"]]
        revision = int(document["revision"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Invalid(f"{path} is not a directory snapshot: {error}") from error
    return Snapshot(
        revision=revision,
        tenants={tenant.id: tenant for tenant in tenants},
        keys={key.id: key for key in keys},
    )


def ensure_default_tenant(path: Path, retention_days: Mapping[str, int]) -> Snapshot:
    """The snapshot at *path*, made with the default tenant when there is none yet."""
    snapshot = load_snapshot(path) if path.exists() else Snapshot()
    if DEFAULT_TENANT not in snapshot.tenants:
        snapshot = snapshot.with_tenant(new_tenant(DEFAULT_TENANT, retention_days))
        save_snapshot(path, snapshot)
    return snapshot


def pepper_of(settings: Settings) -> bytes:
    """The secret that API keys are hashed with: API_KEY_PEPPER, or a file of the data folder."""
    if settings.api_key_pepper:
        return settings.api_key_pepper.encode()
    return load_or_create_pepper(settings.data_dir / PEPPER_FILE)


def load_or_create_pepper(path: Path) -> bytes:
    """The secret that keys are hashed with; made on first use, readable by its owner only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return path.read_text().strip().encode()


def utc_now() -> datetime:
    """The time now, aware, in UTC."""
    return datetime.now(UTC)


def _key_to_json(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenantId": key.tenant_id,
        "name": key.name,
        "secretHash": key.secret_hash.hex(),
        "signals": list(key.signals),
        "createdAt": key.created_at.isoformat(),
        "expiresAt": key.expires_at.isoformat(),
        "revokedAt": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _key_from_json(entry: Mapping[str, Any]) -> ApiKey:
    revoked_at = entry["revokedAt"]
    return ApiKey(
        id=entry["id"],
        tenant_id=entry["tenantId"],
        name=entry["name"],
        secret_hash=bytes.fromhex(entry["secretHash"]),
        signals=tuple(entry["signals"]),
        created_at=datetime.fromisoformat(entry["createdAt"]),
        expires_at=datetime.fromisoformat(entry["expiresAt"]),
        revoked_at=datetime.fromisoformat(revoked_at) if revoked_at else None,
    )
