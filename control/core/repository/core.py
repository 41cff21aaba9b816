"""All repositories of core on one transaction, and what concerns several of them."""

from uuid import UUID

from control.core.domain.roles import LEVEL_OF_ADMINISTRATORS, LEVEL_OF_THE_WEAKEST
from control.core.repository.people import Invitations, Users
from control.core.repository.roles import Groups, Roles
from control.core.repository.tenancy import Organizations, Regions, Tenants, Workspaces
from shared.directory import DEFAULT_TENANT
from shared.errors import Conflict
from shared.messaging.events import Event
from shared.postgres.connection import Connection


class CoreRepositories:
    """Opened for one transaction (shared.postgres.database.UnitOfWork)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events: list[Event] = []
        self.regions = Regions(connection, self.events)
        self.organizations = Organizations(connection, self.events)
        self.workspaces = Workspaces(connection, self.events)
        self.tenants = Tenants(connection, self.events)
        self.users = Users(connection, self.events)
        self.roles = Roles(connection, self.events)
        self.groups = Groups(connection, self.events)
        self.invitations = Invitations(connection, self.events)

    async def level_of(self, user_id: UUID) -> int:
        """The strongest level that a person holds anywhere; 5, the weakest, without any role."""
        level = await self._connection.fetchval(
            """
            SELECT min(roles.level)
              FROM (SELECT role_id FROM user_roles WHERE user_id = $1
                     UNION
                    SELECT role_id FROM user_groups JOIN group_roles USING (group_id)
                     WHERE user_id = $1) AS held
              JOIN roles ON roles.id = role_id
            """,
            user_id,
        )
        return int(level or LEVEL_OF_THE_WEAKEST)

    async def access_changed(self, organization_id: UUID) -> None:
        """Let no process use permissions that it remembers of this organization's people."""
        await self._connection.execute(
            "UPDATE organizations SET access_version = access_version + 1 WHERE id = $1",
            organization_id,
        )

    async def call_default(self, tenant_id: UUID) -> None:
        """Let data that comes without a key belong to this tenant: it is `default` in telemetry."""
        await self._connection.execute(
            "UPDATE tenants SET telemetry_id = $2 WHERE id = $1", tenant_id, DEFAULT_TENANT
        )

    async def require_administrators(self, organization_id: UUID) -> None:
        """Conflict, when the transaction leaves the organization without an administrator.

        The organization's row is locked first, so that two who remove each other do not both pass.
        """
        await self._connection.execute(
            "SELECT FROM organizations WHERE id = $1 FOR UPDATE", organization_id
        )
        left = await self._connection.fetchval(
            "SELECT count(*) FROM administrators WHERE organization_id = $1 AND level <= $2",
            organization_id,
            LEVEL_OF_ADMINISTRATORS,
        )
        if not left:
            raise Conflict("they are the last administrator: name another one first")
        # Whoever looks after the platform may be of any organization, and is counted over all.
        if not await self._connection.fetchval("SELECT super_administrators()"):
            raise Conflict("they are the last super administrator: name another one first")
