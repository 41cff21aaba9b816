"""`telemetryflow key`: the directory file of a machine without a control plane."""

import fcntl
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ingest.app import DIRECTORY_FILE
from shared.directory import (
    ApiKey,
    Snapshot,
    create_key,
    ensure_default_tenant,
    new_tenant,
    pepper_of,
    revoke_key,
    save_snapshot,
    utc_now,
)
from shared.settings import Settings


@contextmanager
def _locked(settings: Settings) -> Iterator[Path]:
    """The directory's path, with other writers kept out."""
    path = settings.data_dir / DIRECTORY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def create(settings: Settings, options: Namespace) -> int:
    """Make a key, and its tenant when that is new."""
    with _locked(settings) as path:
        snapshot = ensure_default_tenant(path, settings.retention_days)
        if options.tenant not in snapshot.tenants:
            snapshot = snapshot.with_tenant(new_tenant(options.tenant, settings.retention_days))
        snapshot, key, secret = create_key(
            snapshot,
            tenant_id=options.tenant,
            name=options.name,
            pepper=pepper_of(settings),
            now=utc_now(),
            signals=[signal.strip() for signal in options.signals.split(",") if signal.strip()],
            expires_in_days=options.days,
        )
        save_snapshot(path, snapshot)
    print(f"Key for tenant {key.tenant_id}, until {key.expires_at:%Y-%m-%d}. The secret is shown")
    print("only now:\n")
    print(f"  id      {key.id}")
    print(f"  secret  {secret}\n")
    print("For an OpenTelemetry SDK or collector:\n")
    print(f'  OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20{key.id}:{secret}"')
    return 0


def list_keys(settings: Settings, _options: Namespace) -> int:
    """All keys, newest first."""
    snapshot = _snapshot(settings)
    table = Table("id", "tenant", "name", "signals", "expires", "state", box=None)
    now = utc_now()
    for key in sorted(snapshot.keys.values(), key=lambda key: key.created_at, reverse=True):
        state = _state(key, usable=key.usable_at(now))
        expires = f"{key.expires_at:%Y-%m-%d}"
        table.add_row(key.id, key.tenant_id, key.name, ",".join(key.signals), expires, state)
    Console(width=160).print(table)
    return 0


def revoke(settings: Settings, options: Namespace) -> int:
    """Refuse a key from now on."""
    with _locked(settings) as path:
        snapshot = ensure_default_tenant(path, settings.retention_days)
        save_snapshot(path, revoke_key(snapshot, options.key_id, now=utc_now()))
    print(f"{options.key_id} is revoked; gateways refuse it within a second.")
    return 0


def _snapshot(settings: Settings) -> Snapshot:
    with _locked(settings) as path:
        return ensure_default_tenant(path, settings.retention_days)


def _state(key: ApiKey, *, usable: bool) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "usable" if usable else "expired"
