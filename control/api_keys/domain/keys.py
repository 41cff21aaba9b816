"""An API key: from its making to its end.

active ──rotate──▶ rotated ──grace over──▶ expired
  │  └──time over──▶ expired
  └──revoke──▶ revoked ◀──revoke── rotated
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple
from uuid import UUID

from control.api_keys.domain.limits import Rates
from control.api_keys.events import (
    ApiKeyCreated,
    ApiKeyExpired,
    ApiKeyExpiresSoon,
    ApiKeyRevoked,
    ApiKeyRotated,
    ApiKeyUpdated,
)
from shared.changes import changes_of
from shared.domain import Aggregate
from shared.errors import Conflict, Invalid

Status = Literal["active", "rotated", "revoked", "expired"]
Scope = Literal["tenant", "workspace"]

LIFE_DAYS_DEFAULT: Final = 365
LIFE_DAYS_MAX: Final = 730
GRACE_MINUTES_DEFAULT: Final = 30
GRACE_MINUTES_MAX: Final = 24 * 60
NOTICE: Final = timedelta(days=7)
NAME_CHARACTERS_MAX: Final = 100
DESCRIPTION_CHARACTERS_MAX: Final = 1_000
NETWORKS_MAX: Final = 50

_SIGNALS: Final = ("metrics", "logs", "traces")
PRESETS: Final = {
    "ingestionOnly": tuple(f"{signal}:write" for signal in _SIGNALS),
    "readOnly": tuple(f"{signal}:read" for signal in _SIGNALS),
    "fullAccess": (
        *(f"{signal}:{action}" for signal in _SIGNALS for action in ("read", "write")),
        *("alerts:read", "alerts:write"),
    ),
}
# What a key can be allowed: nothing about people, roles or other keys.
PERMISSIONS: Final = PRESETS["fullAccess"]
_ROTATED: Final = " (Rotated)"


class Place(NamedTuple):
    """Where somebody works: a tenant, and the workspace that it is in."""

    tenant_id: UUID
    workspace_id: UUID | None


@dataclass(kw_only=True)
class ApiKey(Aggregate):
    """A key without its secret; *key_id* is what clients send beside that.

    It writes for one tenant, or for every tenant of a workspace.
    """

    organization_id: UUID
    # One of both.
    tenant_id: UUID | None = None
    workspace_id: UUID | None = None
    key_id: str
    secret_hash: bytes = field(repr=False)
    pepper_id: str
    name: str
    description: str = ""
    permissions: frozenset[str]
    allowed_networks: Sequence[str] = ()
    # Of what comes with this key, beside its tenant's.
    limits: Rates = field(default_factory=Rates)
    status: Status = "active"
    created_by: UUID | None
    expires_at: datetime
    grace_ends_at: datetime | None = None
    replaced_by: UUID | None = None
    revoked_at: datetime | None = None
    revoked_by: UUID | None = None
    noticed_at: datetime | None = None
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        """Invalid names the field that is wrong."""
        self._check()

    @property
    def works_until(self) -> datetime:
        """When it ends by itself."""
        return min(self.expires_at, self.grace_ends_at or self.expires_at)

    def is_usable(self, now: datetime) -> bool:
        """Whether a gateway takes it."""
        return self.status in ("active", "rotated") and now < self.works_until

    def created(self) -> None:
        """Tell that it is new."""
        self.record(
            ApiKeyCreated(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                tenant_id=self.tenant_id,
                key_id=self.key_id,
                name=self.name,
                permissions=sorted(self.permissions),
                expires_at=self.expires_at,
                workspace_id=self.workspace_id,
            )
        )

    def change(
        self,
        *,
        name: str | None,
        description: str | None,
        allowed_networks: Sequence[str] | None,
        limits: Rates | None,
    ) -> None:
        """Take what is given."""
        before = self._changeable()
        if name is not None:
            self.name = name
        if description is not None:
            self.description = description
        if allowed_networks is not None:
            self.allowed_networks = allowed_networks
        if limits is not None:
            self.limits = limits
        self._check()
        if changes := changes_of(before, self._changeable()):
            self.record(
                ApiKeyUpdated(
                    aggregate_id=self.id,
                    organization_id=self.organization_id,
                    tenant_id=self.tenant_id,
                    key_id=self.key_id,
                    changes=changes,
                )
            )

    def rotate(
        self,
        *,
        key_id: str,
        secret_hash: bytes,
        pepper_id: str,
        grace: timedelta,
        by: UUID | None,
        now: datetime,
    ) -> "ApiKey":
        """The key that takes its place; this one works until *grace* is over.

        The new one lives as long as this one was meant to. Conflict unless this one is active.
        """
        if self.status != "active" or not self.is_usable(now):
            raise Conflict(f"only an active key is rotated; this one is {self._told_status(now)}")
        if not timedelta(0) <= grace <= timedelta(minutes=GRACE_MINUTES_MAX):
            raise Invalid(
                f"the grace is 0 to {GRACE_MINUTES_MAX} minutes", field="gracePeriodMinutes"
            )
        life = self.expires_at - (self.created_at or now)
        base = self.name.removesuffix(_ROTATED)[: NAME_CHARACTERS_MAX - len(_ROTATED)]
        successor = ApiKey(
            organization_id=self.organization_id,
            tenant_id=self.tenant_id,
            workspace_id=self.workspace_id,
            key_id=key_id,
            secret_hash=secret_hash,
            pepper_id=pepper_id,
            name=f"{base}{_ROTATED}",
            description=self.description,
            permissions=self.permissions,
            allowed_networks=self.allowed_networks,
            limits=self.limits,
            created_by=by,
            expires_at=now + life,
        )
        successor.created()
        self.status = "rotated"
        self.grace_ends_at = now + grace
        self.replaced_by = successor.id
        self.record(
            ApiKeyRotated(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                tenant_id=self.tenant_id,
                key_id=self.key_id,
                replaced_by=successor.id,
                grace_ends_at=self.grace_ends_at,
            )
        )
        return successor

    def revoke(self, *, by: UUID | None, now: datetime) -> None:
        """End it at once; Conflict when it has ended already."""
        if self.status in ("revoked", "expired"):
            raise Conflict(f"the key is {self.status} already")
        self.status, self.revoked_at, self.revoked_by = "revoked", now, by
        self.record(
            ApiKeyRevoked(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                tenant_id=self.tenant_id,
                key_id=self.key_id,
            )
        )

    def expire(self, *, now: datetime) -> bool:
        """Mark what time has done; whether it has."""
        if self.status not in ("active", "rotated") or now < self.works_until:
            return False
        self.status = "expired"
        self.record(
            ApiKeyExpired(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                tenant_id=self.tenant_id,
                key_id=self.key_id,
            )
        )
        return True

    def notice(self, *, now: datetime) -> bool:
        """Tell once that it expires within `NOTICE`; whether that was due."""
        if self.status != "active" or self.noticed_at is not None:
            return False
        if not now < self.expires_at <= now + NOTICE:
            return False
        self.noticed_at = now
        self.record(
            ApiKeyExpiresSoon(
                aggregate_id=self.id,
                organization_id=self.organization_id,
                tenant_id=self.tenant_id,
                key_id=self.key_id,
                name=self.name,
                expires_at=self.expires_at,
                created_by=self.created_by,
            )
        )
        return True

    def _changeable(self) -> dict[str, object]:
        return {
            "name": self.name,
            "description": self.description,
            "allowedNetworks": list(self.allowed_networks),
            "limits": self.limits,
        }

    def _told_status(self, now: datetime) -> str:
        return "expired" if self.status == "active" and now >= self.expires_at else self.status

    def _check(self) -> None:
        if (self.tenant_id is None) == (self.workspace_id is None):
            raise Invalid("a key belongs to a tenant or to a workspace", field="scope")
        self.name = self.name.strip()
        if not 0 < len(self.name) <= NAME_CHARACTERS_MAX:
            raise Invalid(f"a name has 1 to {NAME_CHARACTERS_MAX} characters", field="name")
        if len(self.description) > DESCRIPTION_CHARACTERS_MAX:
            raise Invalid(f"at most {DESCRIPTION_CHARACTERS_MAX} characters", field="description")
        self.permissions = checked_permissions(self.permissions)
        self.allowed_networks = checked_networks(self.allowed_networks)


def expiry_of(days: int, *, now: datetime) -> datetime:
    """When a key of that many days ends."""
    if not 1 <= days <= LIFE_DAYS_MAX:
        raise Invalid(f"a key lives 1 to {LIFE_DAYS_MAX} days", field="expiresInDays")
    return now + timedelta(days=days)


def checked_permissions(names: Iterable[str]) -> frozenset[str]:
    """Some of `PERMISSIONS`."""
    permissions = frozenset(names)
    if not permissions:
        raise Invalid("a key allows something", field="permissions")
    if unknown := sorted(permissions - set(PERMISSIONS)):
        raise Invalid(
            f"{unknown[0]} is nothing that a key can allow: choose from {', '.join(PERMISSIONS)}",
            field="permissions",
        )
    return permissions


def checked_networks(texts: Sequence[str]) -> list[str]:
    """Addresses and networks as CIDR, such as 203.0.113.0/24 or 2001:db8::/32."""
    if len(texts) > NETWORKS_MAX:
        raise Invalid(f"at most {NETWORKS_MAX} networks", field="allowedNetworks")
    networks = []
    for place, text in enumerate(texts):
        try:
            networks.append(str(ipaddress.ip_network(text.strip())))
        except ValueError as error:
            raise Invalid(
                f"{text[:50]!r} is no address or network such as 203.0.113.0/24 "
                "(the bits behind the prefix are 0)",
                field=f"allowedNetworks.{place}",
            ) from error
    return list(dict.fromkeys(networks))
