"""What api_keys tells the other contexts; never a secret, never its hash."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from shared.messaging.events import Event, Updated


@dataclass(frozen=True, kw_only=True)
class ApiKeyCreated(Event):
    """A key exists, of its tenant or of a workspace."""

    key_id: str
    name: str
    permissions: list[str]
    expires_at: datetime
    workspace_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class ApiKeyUpdated(Updated):
    """A key has other properties."""

    key_id: str


@dataclass(frozen=True, kw_only=True)
class ApiKeyRotated(Event):
    """A key is replaced by another, and works until its grace is over."""

    key_id: str
    replaced_by: UUID
    grace_ends_at: datetime


@dataclass(frozen=True, kw_only=True)
class ApiKeyRevoked(Event):
    """A key works no more."""

    key_id: str


@dataclass(frozen=True, kw_only=True)
class ApiKeyExpired(Event):
    """A key came to its end, or its grace did."""

    key_id: str


@dataclass(frozen=True, kw_only=True)
class ApiKeyExpiresSoon(Event):
    """A key that is used will expire: its owner is told."""

    key_id: str
    name: str
    expires_at: datetime
    created_by: UUID | None


@dataclass(frozen=True, kw_only=True)
class IngestionQuotaNearlyUsed(Event):
    """80 % of an organization's quota of a month are stored."""

    signal: str
    month: date
    items_used: int
    items_max: int
    grace_ends_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class IngestionQuotaUsedUp(IngestionQuotaNearlyUsed):
    """All of it is stored; more is taken until the grace ends."""


@dataclass(frozen=True, kw_only=True)
class IngestionQuotaRefused(IngestionQuotaNearlyUsed):
    """The grace is over: gateways refuse the signal until the month ends."""


@dataclass(frozen=True, kw_only=True)
class TenantLimitsChanged(Updated):
    """A tenant's administrators want other limits below those of its plan; null is the plan's."""

    limits: dict[str, int | None]


@dataclass(frozen=True, kw_only=True)
class IngestionPlanChanged(Updated):
    """A plan allows something else, to all organizations that have it."""

    plan: str
    limits: dict[str, int | None]
    quotas: dict[str, int | None]


@dataclass(frozen=True, kw_only=True)
class IngestionPlanAssigned(Updated):
    """An organization has another plan."""

    plan: str


EVENTS: tuple[type[Event], ...] = (
    ApiKeyCreated,
    ApiKeyUpdated,
    ApiKeyRotated,
    ApiKeyRevoked,
    ApiKeyExpired,
    ApiKeyExpiresSoon,
    IngestionQuotaNearlyUsed,
    IngestionQuotaUsedUp,
    IngestionQuotaRefused,
    TenantLimitsChanged,
    IngestionPlanChanged,
    IngestionPlanAssigned,
)
