"""Who may write, decided from a snapshot in memory, and how the snapshot gets there."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest import directory as directory_module
from ingest.credentials import Credentials
from ingest.directory import Directory, SnapshotFile, keyless_tenant
from ingest.signals import Signal
from shared.directory import (
    ApiKey,
    Snapshot,
    create_key,
    ensure_default_tenant,
    load_or_create_pepper,
    load_snapshot,
    new_tenant,
    retention_class,
    revoke_key,
    save_snapshot,
)
from shared.errors import Forbidden, Invalid, NotFound, Unauthenticated

PEPPER = b"pepper"
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
DAYS = {"traces": 14, "logs": 30, "metrics": 90}


def snapshot_with_key(
    signals: tuple[str, ...] = ("traces", "metrics", "logs"),
) -> tuple[Snapshot, ApiKey, str]:
    snapshot = Snapshot().with_tenant(new_tenant("acme", DAYS))
    return create_key(
        snapshot, tenant_id="acme", name="test", pepper=PEPPER, now=NOW, signals=signals
    )


def directory_of(
    snapshot: Snapshot, *, keyless: str | None = None, now: datetime = NOW
) -> Directory:
    directory = Directory(pepper=PEPPER, keyless_tenant=keyless, clock=lambda: now)
    directory.replace(snapshot)
    return directory


def test_a_key_gives_its_tenant_and_the_retention_of_the_signal() -> None:
    snapshot, key, secret = snapshot_with_key()

    principal = directory_of(snapshot).authenticate(Credentials(key.id, secret), Signal.LOGS)

    assert principal.tenant_id == "acme"
    assert principal.retention_days == 30


def test_an_unknown_key_and_a_wrong_secret_are_told_alike() -> None:
    snapshot, key, _secret = snapshot_with_key()
    directory = directory_of(snapshot)

    with pytest.raises(Unauthenticated) as wrong:
        directory.authenticate(Credentials(key.id, "tfs_" + "0" * 64), Signal.TRACES)
    with pytest.raises(Unauthenticated) as unknown:
        directory.authenticate(Credentials("tfk_" + "0" * 32, "tfs_" + "0" * 64), Signal.TRACES)

    assert str(wrong.value) == str(unknown.value)


def test_an_expired_and_a_revoked_key_are_refused() -> None:
    snapshot, key, secret = snapshot_with_key()
    credentials = Credentials(key.id, secret)

    with pytest.raises(Unauthenticated, match="expired"):
        directory_of(snapshot, now=NOW + timedelta(days=366)).authenticate(
            credentials, Signal.TRACES
        )
    with pytest.raises(Unauthenticated, match="revoked"):
        directory_of(revoke_key(snapshot, key.id, now=NOW)).authenticate(credentials, Signal.TRACES)


def test_a_key_writes_only_its_signals() -> None:
    snapshot, key, secret = snapshot_with_key(signals=("traces",))

    with pytest.raises(Forbidden, match="may not write logs"):
        directory_of(snapshot).authenticate(Credentials(key.id, secret), Signal.LOGS)


def test_I14_another_tenant_than_the_keys_is_refused() -> None:
    snapshot, key, secret = snapshot_with_key()

    with pytest.raises(Forbidden, match="X-Tenant-Id"):
        directory_of(snapshot).authenticate(
            Credentials(key.id, secret, tenant_id="globex"), Signal.TRACES
        )


def test_without_credentials_only_the_embedded_loopback_accepts() -> None:
    snapshot = Snapshot().with_tenant(new_tenant("default", DAYS))
    nobody = Credentials(None, "")

    assert (
        directory_of(snapshot, keyless="default").authenticate(nobody, Signal.TRACES).tenant_id
        == "default"
    )
    with pytest.raises(Unauthenticated, match="API key is needed"):
        directory_of(snapshot).authenticate(nobody, Signal.TRACES)
    assert keyless_tenant(embedded=True, host="127.0.0.1") == "default"
    assert keyless_tenant(embedded=True, host="0.0.0.0") is None
    assert keyless_tenant(embedded=False, host="127.0.0.1") is None


def test_a_snapshot_survives_its_file_and_keeps_no_secret(tmp_path: Path) -> None:
    snapshot, _key, secret = snapshot_with_key()
    path = tmp_path / "directory.json"

    save_snapshot(path, snapshot)

    assert load_snapshot(path) == snapshot
    assert secret not in path.read_text()
    assert secret.removeprefix("tfs_") not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "keys": 3}'])
def test_a_damaged_snapshot_is_told_apart_from_a_missing_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "directory.json"
    path.write_text(content)

    with pytest.raises(Invalid, match=r"directory\.json"):
        load_snapshot(path)
    with pytest.raises(FileNotFoundError):
        load_snapshot(tmp_path / "other.json")


async def test_a_change_is_in_force_soon_and_a_damaged_file_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "POLL_SECONDS", 0.01)
    path = tmp_path / "directory.json"
    snapshot, key, secret = snapshot_with_key()
    save_snapshot(path, snapshot)
    directory = directory_of(Snapshot())
    source = SnapshotFile(path, directory)
    source.load()
    credentials = Credentials(key.id, secret)
    assert directory.authenticate(credentials, Signal.TRACES).tenant_id == "acme"
    following = asyncio.create_task(source.follow())

    path.write_text("{damaged")
    await asyncio.sleep(0.1)
    assert directory.authenticate(credentials, Signal.TRACES).tenant_id == "acme"
    save_snapshot(path, revoke_key(snapshot, key.id, now=NOW))
    async with asyncio.timeout(5):
        while True:
            try:
                directory.authenticate(credentials, Signal.TRACES)
            except Unauthenticated:
                break
            await asyncio.sleep(0.01)
    following.cancel()


def test_retention_is_rounded_up_to_a_class_that_bounds_partitions() -> None:
    assert [retention_class(days) for days in (1, 3, 4, 14, 31, 395)] == [3, 3, 7, 14, 90, 395]
    for days in (0, -1, 396):
        with pytest.raises(Invalid, match="choose 1 to 395"):
            retention_class(days)


@pytest.mark.parametrize("tenant_id", ["", "-a", "a b", "a/b", "a'b", "x" * 65, "ä"])
def test_a_tenant_id_that_would_not_fit_a_database_name_is_refused(tenant_id: str) -> None:
    with pytest.raises(Invalid, match="tenant id"):
        new_tenant(tenant_id, DAYS)


def test_keys_are_made_for_existing_tenants_with_sensible_terms_only() -> None:
    snapshot = Snapshot().with_tenant(new_tenant("acme", DAYS))

    def create(**terms: object) -> None:
        create_key(
            snapshot,
            **{"tenant_id": "acme", "name": "n", "pepper": PEPPER, "now": NOW, **terms},  # type: ignore[arg-type]
        )

    with pytest.raises(NotFound):
        create(tenant_id="globex")
    refused: tuple[dict[str, object], ...] = (
        {"name": ""},
        {"signals": ["profiles"]},
        {"signals": []},
        {"expires_in_days": 731},
        {"expires_in_days": 0},
    )
    for terms in refused:
        with pytest.raises(Invalid):
            create(**terms)
    with pytest.raises(NotFound):
        revoke_key(snapshot, "tfk_unknown", now=NOW)


def test_the_pepper_and_the_default_tenant_are_made_once(tmp_path: Path) -> None:
    pepper = load_or_create_pepper(tmp_path / "secrets" / "pepper")
    first = ensure_default_tenant(tmp_path / "directory.json", DAYS)

    assert len(pepper) == 64
    assert load_or_create_pepper(tmp_path / "secrets" / "pepper") == pepper
    assert ensure_default_tenant(tmp_path / "directory.json", {**DAYS, "logs": 3}) == first
    assert json.loads((tmp_path / "directory.json").read_text())["revision"] == 1
