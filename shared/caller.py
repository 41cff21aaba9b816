"""Who is calling: the person, key or process behind a command, and what they may do.

The caller of the request that runs is kept in a context variable, for the audit context of events
and for log lines; what decides about permissions takes it as an argument.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from shared.errors import Forbidden
from shared.postgres.scope import PLATFORM, Scope

EVERYTHING: Final = "*:*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A user within one tenant of their organization, an API key, or the product itself.

    *permissions* are names `resource:action`, *permissions_everywhere* those of them that are held
    in the whole organization and not in this tenant alone; *tier* is the strongest tier of the
    caller's roles, 1 the strongest (facts of the role model: control.core.permissions).
    *tenant_ids* are the tenants that the caller may enter: None means all of the organization.
    """

    kind: str = "user"
    user_id: UUID | None = None
    # Of an API key: what its holder sends beside the secret.
    key_id: str = ""
    email: str = ""
    organization_id: UUID | None = None
    workspace_id: UUID | None = None
    tenant_id: UUID | None = None
    # What the tenant is called in ClickHouse, where it has no id; empty without a tenant.
    telemetry_id: str = ""
    session_id: UUID | None = None
    permissions: frozenset[str] = frozenset()
    permissions_everywhere: frozenset[str] = frozenset()
    tier: int = 5
    has_mfa: bool = False
    # Why this person may do nothing else yet, such as a password that must be changed first.
    unsettled: str = ""
    request_id: str = ""
    ip_address: str = ""
    user_agent: str = ""
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def is_platform(self) -> bool:
        """Whether rows of every organization are within reach."""
        return EVERYTHING in self.permissions

    @property
    def scope(self) -> Scope:
        """Whose rows transactions on this caller's behalf may see."""
        if self.is_platform:
            return PLATFORM
        return Scope(organization_id=self.organization_id, tenant_id=self.tenant_id)

    def may(self, permission: str) -> bool:
        """Whether *permission* is among the caller's."""
        return self.is_platform or permission in self.permissions

    def require(self, permission: str) -> None:
        """Forbidden, unless the caller has *permission*."""
        if not self.may(permission):
            raise Forbidden(f"this needs the permission {permission}")

    def require_everywhere(self, permission: str) -> None:
        """Forbidden, unless the caller has *permission* in every tenant of the organization."""
        if not self.is_platform and permission not in self.permissions_everywhere:
            raise Forbidden(f"this needs the permission {permission} in the whole organization")


class ForeignTenant(Forbidden):
    """*by* asked for a tenant that is none of theirs."""

    def __init__(self, by: Caller, wanted: UUID | str) -> None:
        super().__init__("X-Tenant-Id names a tenant that is not yours")
        self.by = by
        self.wanted = wanted


# What the product does by itself: its start, its schedules, its subscribers.
SYSTEM: Final = Caller(kind="system", permissions=frozenset({EVERYTHING}), tier=1)
NOBODY: Final = Caller(kind="anonymous")

_current: ContextVar[Caller] = ContextVar("caller", default=SYSTEM)


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Within the block, events are recorded as caused by *caller*."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def current_caller() -> Caller:
    """On whose behalf this runs."""
    return _current.get()


def current_context() -> dict[str, Any]:
    """The current caller as the audit context of an event."""
    caller = _current.get()
    return {
        "actor": caller.kind,
        "userId": str(caller.user_id) if caller.user_id else None,
        "email": caller.email or None,
        "sessionId": str(caller.session_id) if caller.session_id else None,
        "requestId": caller.request_id or None,
        "ipAddress": caller.ip_address or None,
        "userAgent": caller.user_agent or None,
        **({"keyId": caller.key_id} if caller.key_id else {}),
        **caller.context,
    }
