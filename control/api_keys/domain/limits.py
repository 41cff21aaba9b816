"""How much may come in: limits of a key, of a tenant and of a plan, and which plan applies.

None is no limit. A plan bounds its organization's tenants, a tenant may only go below, and a key's
own limits hold beside the tenant's.
"""

from dataclasses import asdict, dataclass, fields
from typing import Final, Literal
from uuid import UUID, uuid5

from control.api_keys.events import (
    IngestionPlanAssigned,
    IngestionPlanChanged,
    TenantLimitsChanged,
)
from shared.domain import Aggregate
from shared.errors import Conflict, Invalid

# Far above what a gateway takes; what is meant is no limit.
RATE_MAX: Final = 1_000_000_000_000
DESCRIPTION_CHARACTERS_MAX: Final = 1_000
GRACE_DAYS_MAX: Final = 31
# Of organizations that were given none; it limits nothing, whoever runs the platform.
UNLIMITED: Final = "unlimited"
_PLANS: Final = UUID("c4f8d1a2-5a55-4c5e-9f0b-7a9a0f6f1d0e")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one gateway process takes; a burst of ten seconds is allowed."""

    requests_per_minute: int | None = None
    items_per_second: int | None = None
    bytes_per_second: int | None = None

    def __post_init__(self) -> None:
        """Invalid names the field that is out of bounds."""
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and not 1 <= value <= RATE_MAX:
                raise Invalid(f"give 1 to {RATE_MAX}, or null for no limit", field=camel(one.name))


@dataclass(frozen=True, kw_only=True)
class TenantRates(Rates):
    """What one gateway process takes of a tenant; of what is new, in an hour."""

    new_series_per_hour: int | None = None
    new_attribute_keys_per_hour: int | None = None


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """Stored items of an organization in a calendar month (UTC), and what comes after them."""

    traces_per_month: int | None = None
    metrics_per_month: int | None = None
    logs_per_month: int | None = None
    grace_days: int = 0

    def __post_init__(self) -> None:
        """Invalid names the field that is out of bounds."""
        quotas = {
            "tracesPerMonth": self.traces_per_month,
            "metricsPerMonth": self.metrics_per_month,
            "logsPerMonth": self.logs_per_month,
        }
        for name, value in quotas.items():
            if value is not None and not 1 <= value <= RATE_MAX:
                raise Invalid(f"give 1 to {RATE_MAX}, or null for no quota", field=name)
        if not 0 <= self.grace_days <= GRACE_DAYS_MAX:
            raise Invalid(f"a grace is 0 to {GRACE_DAYS_MAX} days", field="graceDays")


@dataclass(kw_only=True)
class IngestionPlan(Aggregate):
    """What organizations of one plan may send; its id follows from its name."""

    name: str
    description: str
    limits: TenantRates
    quotas: Quotas

    @classmethod
    def id_of(cls, name: str) -> UUID:
        """The id of the plan of that name."""
        return uuid5(_PLANS, name)

    def change(self, *, description: str, limits: TenantRates, quotas: Quotas) -> None:
        """Take all of it; Conflict for the plan that is there so that nothing is limited."""
        if self.name == UNLIMITED:
            raise Conflict(f"the plan {UNLIMITED} limits nothing: give organizations another one")
        if len(description) > DESCRIPTION_CHARACTERS_MAX:
            raise Invalid(f"at most {DESCRIPTION_CHARACTERS_MAX} characters", field="description")
        changes = self.take({"description": description, "limits": limits, "quotas": quotas})
        if changes:
            self.record(
                IngestionPlanChanged(
                    aggregate_id=self.id,
                    plan=self.name,
                    limits=asdict(limits),
                    quotas=asdict(quotas),
                    changes=changes,
                )
            )


@dataclass(kw_only=True)
class OrganizationPlan(Aggregate):
    """Which plan an organization has; its id is the organization's."""

    plan: str = UNLIMITED

    def assign(self, plan: str) -> None:
        """Let it have that plan from now on."""
        if changes := self.take({"plan": plan}):
            self.record(
                IngestionPlanAssigned(
                    aggregate_id=self.id, organization_id=self.id, plan=plan, changes=changes
                )
            )


@dataclass(kw_only=True)
class TenantLimits(Aggregate):
    """What a tenant's administrators want below its plan; its id is the tenant's."""

    organization_id: UUID
    limits: TenantRates

    def change(self, limits: TenantRates, *, plan: TenantRates) -> None:
        """Take all of it; Invalid where it is above *plan*."""
        for one in fields(limits):
            own, most = getattr(limits, one.name), getattr(plan, one.name)
            if own is not None and most is not None and own > most:
                raise Invalid(f"the plan allows at most {most}", field=camel(one.name))
        if changes := self.take({"limits": limits}):
            self.record(
                TenantLimitsChanged(
                    aggregate_id=self.id,
                    organization_id=self.organization_id,
                    tenant_id=self.id,
                    limits=asdict(limits),
                    changes=changes,
                )
            )


def effective(
    plan: int | None, own: int | None
) -> tuple[int | None, Literal["none", "plan", "tenant"]]:
    """The lower of the two, and whose it is; of equal ones the plan's."""
    if own is not None and (plan is None or own < plan):
        return own, "tenant"
    return plan, "none" if plan is None else "plan"


def camel(name: str) -> str:
    """As the API spells it."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
