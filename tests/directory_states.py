"""Directories by hand: tenants and keys as gateways know them, without a control plane."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ingest.directory_follower import DIRECTORY_FILE
from shared.directory import new_tenant
from shared.directory.directory_pb2 import Key, Limits
from shared.directory.state import DirectoryState
from shared.security.peppers import Peppers, new_key_id, new_secret

DAYS = {"traces": 14, "logs": 30, "metrics": 90}
SIGNALS = ("traces", "metrics", "logs")
FOR_EVER = 1 << 40


def state_of(*tenants: str, workspace: str = "") -> DirectoryState:
    """These tenants, and no keys."""
    state = DirectoryState()
    for name in tenants:
        add_tenant(state, name, workspace)
    return state


def add_tenant(
    state: DirectoryState,
    name: str,
    workspace: str,
    *,
    is_active: bool = True,
    traces_days: int = DAYS["traces"],
) -> None:
    """A tenant of that workspace, or it anew."""
    tenant = new_tenant(name, DAYS | {"traces": traces_days}, is_active=is_active)
    tenant.workspace = workspace
    state.put_tenant(tenant)


def add_key(
    state: DirectoryState,
    peppers: Peppers,
    tenant: str,
    *,
    workspace: str = "",
    signals: Sequence[str] = SIGNALS,
    works_until: int = FOR_EVER,
    networks: Sequence[str] = (),
    limits: Limits | None = None,
) -> tuple[Key, str]:
    """A new key of *tenant*, or of *workspace* with that one empty, and its secret."""
    secret = new_secret()
    key = Key(
        id=new_key_id(),
        changed=1,
        tenant=tenant,
        workspace=workspace,
        secret_hash=peppers.hash(secret),
        pepper_id=peppers.current_id,
        permissions=[f"{signal}:write" for signal in signals],
        works_until=works_until,
        allowed_networks=networks,
        limits=limits,
    )
    state.put_key(key)
    return key, secret


def save_directory(folder: Path, state: DirectoryState) -> None:
    """Where a gateway with that data folder begins."""
    asyncio.run(state.save(folder / DIRECTORY_FILE))
