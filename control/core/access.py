"""Who a signed-in person is at this moment, and what they may do in the tenant that they chose.

Every request asks PostgreSQL for the person's state, the version of their organization's access
rules and the name of an active tenant, one look-up by key; what follows from the rules is
remembered under that version and name. So a change of roles or of the tenant is in force at the
next request on every process, and PostgreSQL is asked little.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from control.core.domain.permissions import counts_in_tenant
from control.core.domain.roles import LEVEL_OF_THE_WEAKEST
from shared.caller import EVERYTHING, Caller, ForeignTenant
from shared.errors import Unauthenticated
from shared.messaging.events import utc_now
from shared.postgres.database import Database

# A remembered set of permissions takes some 10 kB.
REMEMBERED_MAX: Final = 5_000
TENANTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What the rules of one version mean for a person in a tenant."""

    access_version: int
    until: datetime | None
    organization_id: UUID
    tenant_id: UUID | None
    workspace_id: UUID | None
    telemetry_id: str | None
    permissions: frozenset[str]
    permissions_everywhere: frozenset[str]
    tier: int

    def still_holds(self, person: Any) -> bool:
        """Whether neither the rules, nor the tenant, nor the time made it wrong."""
        return (
            self.access_version == person["access_version"]
            # Of another organization, the tenant is none of what that version counts.
            and self.telemetry_id == person["telemetry_id"]
            and (self.until is None or self.until > utc_now())
        )


class Access:
    """Turns a user id into the `Caller` of this moment.

    That takes what the database's `person_in` says of the user and of `tenant_in_question`, which
    whoever authenticates asks for beside its own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: OrderedDict[tuple[UUID, UUID | None], _Remembered] = OrderedDict()

    def tenant_in_question(self, user_id: UUID, wanted_tenant_id: UUID | None) -> UUID | None:
        """The wanted tenant, or the one that the person was in the last time."""
        if wanted_tenant_id is not None:
            return wanted_tenant_id
        known = self._remembered.get((user_id, None))
        return known.tenant_id if known else None

    async def caller_of(
        self, user_id: UUID, person: Any, *, wanted_tenant_id: UUID | None
    ) -> Caller:
        """The *person* in the wanted tenant, or in their own when they name none.

        Unauthenticated when they may not in any more; ForeignTenant when the tenant is none of
        theirs.
        """
        if person is None or person["organization_id"] is None:
            raise Unauthenticated("this account is not active")
        key = (user_id, wanted_tenant_id)
        known = self._remembered.get(key)
        if known is None or not known.still_holds(person):
            known = await self._look_up(user_id, person, wanted_tenant_id)
            self._remember(key, known)
        caller = Caller(
            user_id=user_id,
            email=person["email"],
            organization_id=known.organization_id,
            workspace_id=known.workspace_id,
            tenant_id=known.tenant_id,
            telemetry_id=known.telemetry_id or "",
            permissions=known.permissions,
            permissions_everywhere=known.permissions_everywhere,
            tier=known.tier,
        )
        if wanted_tenant_id is not None and known.tenant_id != wanted_tenant_id:
            raise ForeignTenant(caller, wanted_tenant_id)
        return caller

    def _remember(self, key: tuple[UUID, UUID | None], known: _Remembered) -> None:
        _user_id, wanted = key
        # A refusal would hold on when the tenant is active again, and invented ids would fill this.
        if wanted is None or known.tenant_id is not None:
            self._remembered[key] = known
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)

    async def _look_up(self, user_id: UUID, person: Any, wanted: UUID | None) -> _Remembered:
        held = await self._database.look_up("SELECT * FROM permissions_of($1)", user_id)
        is_super = any(row["level"] == 1 and row["tenant_id"] is None for row in held)
        organization_id = person["organization_id"]
        if is_super and wanted is not None:
            ((owner,),) = await self._database.look_up("SELECT organization_of_tenant($1)", wanted)
            organization_id = owner or organization_id
        tenants = await self._database.look_up(
            f"SELECT * FROM active_tenants_of($1) LIMIT {TENANTS_MAX}",  # noqa: S608 - a number
            organization_id,
        )
        everywhere = [row for row in held if row["tenant_id"] is None]
        mine = {row["tenant_id"] for row in held}
        open_to_them = [row for row in tenants if everywhere or row["id"] in mine]
        chosen = _chosen(open_to_them, wanted or person["tenant_id"], is_wanted=wanted is not None)
        tenant_id = chosen["id"] if chosen else None
        here = [
            row["name"]
            for row in held
            if row["tenant_id"] == tenant_id is not None and counts_in_tenant(row["name"])
        ]
        allowed_everywhere = frozenset(row["name"] for row in everywhere)
        ends = [row["expires_at"] for row in held if row["expires_at"] is not None]
        return _Remembered(
            access_version=person["access_version"],
            until=min(ends, default=None),
            organization_id=organization_id,
            tenant_id=tenant_id,
            workspace_id=chosen["workspace_id"] if chosen else None,
            telemetry_id=chosen["telemetry_id"] if chosen else None,
            permissions=frozenset({EVERYTHING}) if is_super else allowed_everywhere.union(here),
            permissions_everywhere=allowed_everywhere,
            # Who is strong in one tenant alone is nobody's superior in the organization.
            tier=min((row["level"] for row in everywhere), default=LEVEL_OF_THE_WEAKEST),
        )


def _chosen(tenants: list[Any], first: UUID | None, *, is_wanted: bool) -> Any | None:
    """The tenant with the id *first*; else the oldest one, unless it was asked for by name."""
    for tenant in tenants:
        if tenant["id"] == first:
            return tenant
    return None if is_wanted or not tenants else tenants[0]
