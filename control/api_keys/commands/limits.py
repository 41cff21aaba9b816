"""Commands about how much may come in."""

from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from control.api_keys.commands.keys import place_of
from control.api_keys.domain.limits import Quotas, TenantRates
from control.api_keys.repository.limits import IngestionLimits
from shared.caller import Caller
from shared.messaging.commands import Command, CommandHandlers, Handler
from shared.postgres.database import UnitOfWork

Work = UnitOfWork[IngestionLimits]


@dataclass(frozen=True, kw_only=True)
class SetTenantLimits(Command[None]):
    """Limits of the caller's tenant, below its plan's; None is the plan's."""

    limits: TenantRates
    expected_version: int | None = None


async def set_tenant_limits(command: SetTenantLimits, by: Caller, work: Work) -> None:
    """Invalid, where one is above the plan's."""
    async with work.begin(by.scope) as rules:
        tenant = await rules.limits_of(place_of(by).tenant_id)
        tenant.require_version(command.expected_version)
        organization = await rules.plan_of(tenant.organization_id)
        plan = await rules.plan(organization.plan)
        tenant.change(command.limits, plan=plan.limits)
        await rules.save_limits_of(tenant)


@dataclass(frozen=True, kw_only=True)
class ChangeIngestionPlan(Command[None]):
    """What a plan allows, all of it; None is no limit."""

    name: str
    description: str
    limits: TenantRates
    quotas: Quotas
    expected_version: int | None = None


async def change_plan(command: ChangeIngestionPlan, by: Caller, work: Work) -> None:
    """In force for all organizations that have it, within a second."""
    async with work.begin(by.scope) as rules:
        plan = await rules.plan(command.name)
        plan.require_version(command.expected_version)
        plan.change(description=command.description, limits=command.limits, quotas=command.quotas)
        await rules.save_plan(plan)


@dataclass(frozen=True, kw_only=True)
class AssignIngestionPlan(Command[None]):
    """Give an organization a plan: what platform people do, and a subscription will."""

    organization_id: UUID
    plan: str


async def assign_plan(command: AssignIngestionPlan, by: Caller, work: Work) -> None:
    """NotFound when there is no such organization or plan."""
    async with work.begin(by.scope) as rules:
        organization = await rules.plan_of(command.organization_id)
        plan = await rules.plan(command.plan)
        organization.assign(plan.name)
        await rules.save_plan_of(organization)


def handlers(work: Work) -> CommandHandlers:
    """Who carries out what, and the permission that this needs."""
    table: dict[type[Command[Any]], Handler] = {
        SetTenantLimits: Handler(partial(set_tenant_limits, work=work), "api-keys:write"),
        ChangeIngestionPlan: Handler(partial(change_plan, work=work), "platform:write"),
        AssignIngestionPlan: Handler(partial(assign_plan, work=work), "platform:write"),
    }
    return table
