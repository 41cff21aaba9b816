"""Reads of limits: what is in force, and where it comes from."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from control.api_keys.domain.limits import UNLIMITED, effective
from shared.errors import NotFound
from shared.http.models import Editable, View
from shared.postgres.connection import Connection


class LimitsView(View):
    """What one gateway process takes; null: as much as comes."""

    requests_per_minute: int | None = Field(examples=[60_000])
    items_per_second: int | None = Field(
        description="spans, log records or data points", examples=[100_000]
    )
    bytes_per_second: int | None = Field(
        description="of request bodies, decompressed", examples=[50_000_000]
    )
    new_series_per_hour: int | None = Field(
        description="metric series that were not sent in this hour or the one before; beyond it, "
        "only data points of such series are refused",
        examples=[100_000],
    )
    new_attribute_keys_per_hour: int | None = Field(
        description="likewise, keys of attributes of resources, scopes, spans, log records and "
        "data points",
        examples=[1_000],
    )


class QuotasView(View):
    """Stored items of an organization in a calendar month (UTC); null: as many as come."""

    traces_per_month: int | None = Field(examples=[50_000])
    metrics_per_month: int | None = Field(examples=[1_000_000])
    logs_per_month: int | None = Field(examples=[100_000])
    grace_days: int = Field(description="data is still taken for so long after one is used up")


class IngestionPlanView(Editable):
    """A plan."""

    name: str = Field(examples=["free"])
    description: str
    limits: LimitsView
    quotas: QuotasView
    updated_at: datetime


class IngestionPlanList(View):
    """All plans."""

    data: list[IngestionPlanView]


class OrganizationPlanView(View):
    """Which plan an organization has."""

    organization_id: UUID
    plan: str = Field(examples=["free"])


class LimitInForce(View):
    """One limit, and whose it is."""

    value: int | None
    source: Literal["none", "plan", "tenant"]


class TenantLimitsView(Editable):
    """A tenant's limits at each gateway process: the lower of its plan's and its own."""

    tenant_id: UUID
    plan: str = Field(examples=["free"])
    own: LimitsView = Field(description="what its administrators want; null: the plan's")
    in_force: dict[str, LimitInForce] = Field(
        examples=[{"requestsPerMinute": {"value": 6000, "source": "tenant"}}]
    )
    quotas: QuotasView


async def list_plans(connection: Connection) -> IngestionPlanList:
    """All plans, by name."""
    rows = await connection.fetch("SELECT * FROM ingestion_plans ORDER BY name")
    plans = [
        IngestionPlanView(
            limits=LimitsView.of(row),
            quotas=QuotasView.of(row),
            **{name: row[name] for name in ("name", "version", "description", "updated_at")},
        )
        for row in rows
    ]
    return IngestionPlanList(data=plans)


async def get_plan(connection: Connection, name: str) -> IngestionPlanView:
    """One plan; NotFound when there is none of that name."""
    for plan in (await list_plans(connection)).data:
        if plan.name == name:
            return plan
    raise NotFound("no such plan")


async def get_plan_of(connection: Connection, organization_id: UUID) -> OrganizationPlanView:
    """Which plan an organization has; NotFound when there is no such organization."""
    plan = await connection.fetchval(
        """
        SELECT coalesce(plan, $2) FROM organizations
          LEFT JOIN organization_plans ON organization_id = id
         WHERE id = $1 AND deleted_at IS NULL
        """,
        organization_id,
        UNLIMITED,
    )
    if plan is None:
        raise NotFound("no such organization")
    return OrganizationPlanView(organization_id=organization_id, plan=plan)


async def get_limits_of(connection: Connection, tenant_id: UUID) -> TenantLimitsView:
    """A tenant's limits; NotFound when there is no such tenant."""
    organization_id = await connection.fetchval(
        "SELECT organization_id FROM tenants WHERE id = $1 AND deleted_at IS NULL", tenant_id
    )
    if organization_id is None:
        raise NotFound("no such tenant")
    has = await get_plan_of(connection, organization_id)
    plan = await get_plan(connection, has.plan)
    row = await connection.fetchrow("SELECT * FROM tenant_limits WHERE tenant_id = $1", tenant_id)
    own = LimitsView.of(row or dict.fromkeys(LimitsView.model_fields))
    in_force = {}
    for name, field in LimitsView.model_fields.items():
        value, source = effective(getattr(plan.limits, name), getattr(own, name))
        in_force[str(field.alias)] = LimitInForce(value=value, source=source)
    return TenantLimitsView(
        tenant_id=tenant_id,
        version=row["version"] if row else 0,
        plan=has.plan,
        own=own,
        in_force=in_force,
        quotas=plan.quotas,
    )
