"""What audit tells the other contexts, and itself: what was refused, and what left the trail."""

from dataclasses import dataclass

from shared.messaging.events import Event


@dataclass(frozen=True, kw_only=True)
class SecurityEventDetected(Event):
    """Somebody tried what they may not, such as another organization's tenant.

    *kind* is permission, tenant_mismatch or bad_token, and of data at gateways
    tenant_contradiction. With *left_out* it stands for so many more of a minute.
    """

    kind: str
    detail: str
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class RateLimitExceeded(Event):
    """Somebody asked more often than they may; *left_out* as above."""

    detail: str
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class AuditLogsExported(Event):
    """Entries of the trail were taken out as a file."""

    format: str
    entries: int
    filters: dict[str, str]


EVENTS: tuple[type[Event], ...] = (SecurityEventDetected, RateLimitExceeded, AuditLogsExported)
