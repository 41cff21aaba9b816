"""Limits, quotas and plans, without any I/O."""

from typing import Any
from uuid import uuid4

import pytest

from control.api_keys.domain.limits import (
    RATE_MAX,
    UNLIMITED,
    IngestionPlan,
    OrganizationPlan,
    Quotas,
    Rates,
    TenantLimits,
    TenantRates,
    effective,
)
from control.api_keys.events import IngestionPlanAssigned, TenantLimitsChanged
from shared.errors import Conflict, Invalid


def tenant() -> TenantLimits:
    return TenantLimits(organization_id=uuid4(), limits=TenantRates())


@pytest.mark.parametrize(
    ("make", "values", "field"),
    [
        (Rates, {"requests_per_minute": 0}, "requestsPerMinute"),
        (Rates, {"bytes_per_second": RATE_MAX + 1}, "bytesPerSecond"),
        (TenantRates, {"new_series_per_hour": 0}, "newSeriesPerHour"),
        (Quotas, {"logs_per_month": 0}, "logsPerMonth"),
        (Quotas, {"grace_days": 32}, "graceDays"),
    ],
)
def test_a_limit_out_of_bounds_is_refused_by_name(make: Any, values: Any, field: str) -> None:
    with pytest.raises(Invalid) as error:
        make(**values)

    assert error.value.field == field


@pytest.mark.parametrize(
    ("plan", "own", "expected"),
    [
        (None, None, (None, "none")),
        (5, None, (5, "plan")),
        (None, 5, (5, "tenant")),
        (5, 4, (4, "tenant")),
        (5, 5, (5, "plan")),
        (4, 5, (4, "plan")),
    ],
)
def test_the_lower_of_plan_and_tenant_is_in_force(plan: Any, own: Any, expected: Any) -> None:
    assert effective(plan, own) == expected


def test_a_tenant_goes_below_its_plan_and_not_above() -> None:
    one = tenant()

    one.change(
        TenantRates(items_per_second=4, bytes_per_second=9), plan=TenantRates(items_per_second=5)
    )
    with pytest.raises(Invalid, match="at most 5") as error:
        one.change(TenantRates(items_per_second=6), plan=TenantRates(items_per_second=5))

    assert error.value.field == "itemsPerSecond"
    assert one.limits == TenantRates(items_per_second=4, bytes_per_second=9)


def test_what_changes_nothing_is_no_event() -> None:
    one, organization = tenant(), OrganizationPlan()
    one.change(TenantRates(), plan=TenantRates())
    organization.assign(UNLIMITED)
    assert not one.release_events() + organization.release_events()

    one.change(TenantRates(items_per_second=1), plan=TenantRates())
    organization.assign("pro")
    events = one.release_events() + organization.release_events()
    assert [type(event) for event in events] == [TenantLimitsChanged, IngestionPlanAssigned]


def test_the_plan_that_limits_nothing_never_does() -> None:
    plan = IngestionPlan(
        id=IngestionPlan.id_of(UNLIMITED),
        name=UNLIMITED,
        description="",
        limits=TenantRates(),
        quotas=Quotas(),
    )

    with pytest.raises(Conflict):
        plan.change(description="", limits=TenantRates(items_per_second=1), quotas=Quotas())
