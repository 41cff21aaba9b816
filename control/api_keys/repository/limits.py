"""Plans, which one an organization has, and tenants' own limits as rows.

What gateways are told of a tenant changes with these rows: triggers see to it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, Final
from uuid import UUID

from control.api_keys.domain.limits import (
    UNLIMITED,
    IngestionPlan,
    OrganizationPlan,
    Quotas,
    TenantLimits,
    TenantRates,
)
from shared.domain import Aggregate
from shared.errors import NotFound, Stale
from shared.messaging.events import Event
from shared.postgres.connection import Connection

_LIMITS: Final = tuple(one.name for one in fields(TenantRates))
_QUOTAS: Final = tuple(one.name for one in fields(Quotas))


class IngestionLimits:
    """Repository, opened for one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events: list[Event] = []

    async def plan(self, name: str) -> IngestionPlan:
        """The plan of that name, locked; NotFound when there is none."""
        row = await self._connection.fetchrow(
            "SELECT * FROM ingestion_plans WHERE name = $1 FOR UPDATE", name
        )
        if row is None:
            raise NotFound("no such plan")
        return IngestionPlan(
            id=IngestionPlan.id_of(name),
            version=row["version"],
            name=name,
            description=row["description"],
            limits=TenantRates(**_some(row, _LIMITS)),
            quotas=Quotas(**_some(row, _QUOTAS)),
        )

    async def save_plan(self, plan: IngestionPlan) -> None:
        """Update."""
        values = {
            "description": plan.description,
            **asdict(plan.limits),
            **asdict(plan.quotas),
        }
        await self._update("ingestion_plans", ("name", plan.name), plan, values)

    async def plan_of(self, organization_id: UUID) -> OrganizationPlan:
        """Which one the organization has, locked; NotFound when there is no such organization."""
        found = await self._connection.fetchval(
            "SELECT id FROM organizations WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
            organization_id,
        )
        if found is None:
            raise NotFound("no such organization")
        row = await self._connection.fetchrow(
            "SELECT version, plan FROM organization_plans WHERE organization_id = $1",
            organization_id,
        )
        if row is None:
            return OrganizationPlan(id=organization_id, plan=UNLIMITED)
        return OrganizationPlan(id=organization_id, version=row["version"], plan=row["plan"])

    async def save_plan_of(self, plan: OrganizationPlan) -> None:
        """Insert or update."""
        await self._connection.execute(
            """
            INSERT INTO organization_plans (organization_id, version, plan) VALUES ($1, 1, $2)
            ON CONFLICT (organization_id)
            DO UPDATE SET version = organization_plans.version + 1, plan = $2, updated_at = now()
            """,
            plan.id,
            plan.plan,
        )
        self.events += plan.release_events()

    async def limits_of(self, tenant_id: UUID) -> TenantLimits:
        """The tenant's own, locked; NotFound when there is no such tenant."""
        organization_id = await self._connection.fetchval(
            "SELECT organization_id FROM tenants WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
            tenant_id,
        )
        if organization_id is None:
            raise NotFound("no such tenant")
        row = await self._connection.fetchrow(
            "SELECT * FROM tenant_limits WHERE tenant_id = $1", tenant_id
        )
        return TenantLimits(
            id=tenant_id,
            version=row["version"] if row else 0,
            organization_id=organization_id,
            limits=TenantRates(**_some(row, _LIMITS)) if row else TenantRates(),
        )

    async def save_limits_of(self, tenant: TenantLimits) -> None:
        """Insert or update."""
        values = asdict(tenant.limits)
        if tenant.version:
            await self._update("tenant_limits", ("tenant_id", tenant.id), tenant, values)
            return
        slots = ", ".join(f"${number}" for number in range(3, len(values) + 3))
        await self._connection.execute(
            f"INSERT INTO tenant_limits (tenant_id, organization_id, version, {', '.join(values)})"  # noqa: S608 - names of our own
            f" VALUES ($1, $2, 1, {slots})",
            tenant.id,
            tenant.organization_id,
            *values.values(),
        )
        self.events += tenant.release_events()

    async def _update(
        self,
        table: str,
        key: tuple[str, str | UUID],
        aggregate: Aggregate,
        columns: Mapping[str, Any],
    ) -> None:
        column, value = key
        changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 3))
        status = await self._connection.execute(
            f"UPDATE {table} SET version = version + 1, updated_at = now(), {changes} "  # noqa: S608 - names of our own
            f"WHERE {column} = $1 AND version = $2",
            value,
            aggregate.version,
            *columns.values(),
        )
        if status != "UPDATE 1":
            raise Stale("it changed since it was read: read it again")
        self.events += aggregate.release_events()


def _some(row: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}
