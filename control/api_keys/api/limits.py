"""Routes of limits: how much may come in, by plan and by tenant."""

from pydantic import Field

from control.api_keys.api.keys import RatesBody
from control.api_keys.commands import limits as commands
from control.api_keys.commands.keys import place_of
from control.api_keys.domain.limits import GRACE_DAYS_MAX, RATE_MAX, Quotas, TenantRates
from control.api_keys.queries import limits as queries
from control.api_keys.queries.limits import (
    IngestionPlanList,
    IngestionPlanView,
    OrganizationPlanView,
    TenantLimitsView,
)
from shared.http.call import Call
from shared.http.models import Body, Description, Name
from shared.http.routes import Routes

routes = Routes("Ingestion limits", "How much gateways take, by plan, tenant and key.")


class TenantRatesBody(RatesBody):
    """What one gateway process takes of a tenant, all of it: null is no limit here."""

    new_series_per_hour: int | None = Field(None, ge=1, le=RATE_MAX)
    new_attribute_keys_per_hour: int | None = Field(None, ge=1, le=RATE_MAX)

    def rates(self) -> TenantRates:
        """As commands take them."""
        return TenantRates(**dict(self))


class NewQuotas(Body):
    """All quotas: what is left out or null is none."""

    traces_per_month: int | None = Field(None, ge=1, le=RATE_MAX)
    metrics_per_month: int | None = Field(None, ge=1, le=RATE_MAX)
    logs_per_month: int | None = Field(None, ge=1, le=RATE_MAX)
    grace_days: int = Field(0, ge=0, le=GRACE_DAYS_MAX)


class NewPlan(Body):
    """What a plan allows, all of it."""

    description: Description
    limits: TenantRatesBody
    quotas: NewQuotas


class PlanChoice(Body):
    """The plan of an organization."""

    plan: Name = Field(examples=["pro"])


@routes.get(
    "/ingestion-limits", permission="api-keys:read", answer=TenantLimitsView, is_versioned=True
)
async def get_ingestion_limits(call: Call) -> TenantLimitsView:
    """Get the limits of the tenant that you work in, and whether its plan or it set them."""
    async with call.read() as connection:
        return await queries.get_limits_of(connection, place_of(call.caller).tenant_id)


@routes.put(
    "/ingestion-limits",
    permission="api-keys:write",
    body=TenantRatesBody,
    answer=TenantLimitsView,
    is_versioned=True,
)
async def set_ingestion_limits(call: Call, body: TenantRatesBody) -> TenantLimitsView:
    """Set limits of the tenant that you work in, below those of its plan."""
    await call.execute(
        commands.SetTenantLimits(limits=body.rates(), expected_version=call.expected_version)
    )
    return await get_ingestion_limits(call)


@routes.get("/ingestion-plans", permission="api-keys:read", answer=IngestionPlanList)
async def list_ingestion_plans(call: Call) -> IngestionPlanList:
    """List plans: what each allows to an organization's tenants, and its monthly quotas."""
    async with call.read() as connection:
        return await queries.list_plans(connection)


@routes.put(
    "/ingestion-plans/{name}",
    permission="platform:write",
    body=NewPlan,
    answer=IngestionPlanView,
    is_versioned=True,
)
async def change_ingestion_plan(call: Call, body: NewPlan) -> IngestionPlanView:
    """Set what a plan allows; in force for all organizations that have it within a second."""
    name = call.text("name")
    await call.execute(
        commands.ChangeIngestionPlan(
            name=name,
            description=body.description,
            limits=body.limits.rates(),
            quotas=Quotas(**dict(body.quotas)),
            expected_version=call.expected_version,
        )
    )
    async with call.read() as connection:
        return await queries.get_plan(connection, name)


@routes.get(
    "/organizations/{id}/ingestion-plan", permission="platform:read", answer=OrganizationPlanView
)
async def get_organization_plan(call: Call) -> OrganizationPlanView:
    """Get which plan an organization has; `unlimited` when it was given none."""
    async with call.read() as connection:
        return await queries.get_plan_of(connection, call.id())


@routes.put(
    "/organizations/{id}/ingestion-plan",
    permission="platform:write",
    body=PlanChoice,
    answer=OrganizationPlanView,
)
async def assign_ingestion_plan(call: Call, body: PlanChoice) -> OrganizationPlanView:
    """Give an organization a plan."""
    await call.execute(commands.AssignIngestionPlan(organization_id=call.id(), plan=body.plan))
    return await get_organization_plan(call)
