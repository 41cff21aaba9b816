"""Who sends how much of what: the skew of the data set, in one place.

Of 20 tenants one has 40 % of everything, the others share the rest as 1/rank. Services, operations
and templates of log lines fall off as 1/rank too. Large tenants have more services.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

TENANTS: Final = 20
LARGEST_SHARE: Final = 0.4
# Of all items: those of the last day; the six days before have the rest.
LAST_DAY_SHARE: Final = 0.6
DAYS: Final = 7

_NAMES: Final = (
    *("frontend", "checkout", "cart", "payments", "catalogue", "shipping", "search", "accounts"),
    *("inventory", "pricing", "recommendations", "reviews", "email", "sms", "fraud", "ledger"),
    *("invoices", "tax", "returns", "loyalty", "gateway", "sessions", "media", "geo", "exports"),
)
SERVICES: Final = (*_NAMES, *(f"{name}-worker" for name in _NAMES))
OPERATIONS: Final = (
    *("GET /api/{0}/{{id}}", "GET /api/{0}", "POST /api/{0}", "SELECT {0}", "redis GET {0}"),
    *("PUT /api/{0}/{{id}}", "publish {0}.events", "consume {0}.events", "grpc {0}.Lookup"),
    *("DELETE /api/{0}/{{id}}", "UPDATE {0}", "render {0}"),
)
METHODS: Final = ("GET", "POST", "PUT", "DELETE")
ROUTES: Final = (
    "/api/v1/items/{id}",
    "/api/v1/items",
    "/api/v1/orders",
    "/api/v1/users",
    "/health",
)
PODS: Final = 6


@dataclass(frozen=True)
class Tenant:
    """A tenant, its part of everything, and how many services it has."""

    name: str
    share: float
    services: int


def _tenants() -> tuple[Tenant, ...]:
    weights = [1 / rank for rank in range(1, TENANTS)]
    shares = [LARGEST_SHARE, *((1 - LARGEST_SHARE) * one / sum(weights) for one in weights)]
    return tuple(
        Tenant(f"bench-{number:02}", share, 50 if number == 0 else 20 if number < 6 else 6)
        for number, share in enumerate(shares)
    )


ALL_TENANTS: Final = _tenants()


def ranked(random: Random, count: int) -> int:
    """A number below *count*, small ones more often: as 1/rank."""
    return random.choices(range(count), _WEIGHTS[:count])[0]


_WEIGHTS: Final = [1 / (number + 1) for number in range(len(SERVICES))]


def error_share(service: int) -> float:
    """How many of the spans of a service fail: 0.2 % to 5 %."""
    return (0.002, 0.01, 0.005, 0.05, 0.02)[service % 5]
