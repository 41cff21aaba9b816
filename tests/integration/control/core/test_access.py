"""What a person may do: the database's answer beside a model of it, through random changes."""

import random
from uuid import UUID

import pytest

from control.core.access import Access
from control.core.commands import people, roles
from control.core.domain.permissions import PERMISSIONS
from control.core.repository.core import CoreRepositories
from shared.caller import SYSTEM
from shared.errors import Conflict, NotFound
from shared.messaging.commands import CommandBus
from shared.postgres.database import Database, UnitOfWork
from tests.control.people import seed

STEPS = 60
NAMES = ("dashboards:read", "dashboards:write", "alerts:read", "logs:read", "user:read")


@pytest.mark.parametrize("number", range(4))
async def test_S37_roles_groups_and_grants_add_up_to_what_is_allowed(
    database: Database, number: int
) -> None:
    chance = random.Random(number)
    seeded = await seed(database)
    work = UnitOfWork(database, CoreRepositories)
    bus = CommandBus([people.handlers(work), roles.handlers(work)])
    access = Access(database)
    person = await bus.execute(
        people.InviteUser(
            organization_id=seeded.organization,
            email="model@example.com",
            first_name="M",
            last_name="M",
        ),
        SYSTEM,
    )
    sets = [frozenset(chance.sample(NAMES, 2)) for _ in range(4)]
    made = [
        await bus.execute(
            roles.CreateRole(
                organization_id=seeded.organization,
                name=f"R{one}",
                description="",
                level=4,
                permissions=sorted(names),
            ),
            SYSTEM,
        )
        for one, names in enumerate(sets)
    ]
    group = await bus.execute(
        roles.CreateGroup(
            organization_id=seeded.organization, name="G", description="", role_ids=[made[3]]
        ),
        SYSTEM,
    )
    direct: set[int] = set()
    grants: set[str] = set()
    is_member = False
    for _ in range(STEPS):
        one = chance.randrange(3)
        name = chance.choice(NAMES)
        try:
            match chance.randrange(5):
                case 0:
                    await bus.execute(people.AssignRole(user_id=person, role_id=made[one]), SYSTEM)
                    direct.add(one)
                case 1:
                    await bus.execute(people.RevokeRole(user_id=person, role_id=made[one]), SYSTEM)
                    direct.discard(one)
                case 2:
                    permission_id = PERMISSIONS[name].id
                    await bus.execute(
                        people.GrantPermission(user_id=person, permission_id=permission_id), SYSTEM
                    )
                    grants.add(name)
                case 3:
                    permission_id = PERMISSIONS[name].id
                    await bus.execute(
                        people.RevokePermission(user_id=person, permission_id=permission_id),
                        SYSTEM,
                    )
                    grants.discard(name)
                case _:
                    is_member = not is_member
                    members: list[UUID] = [person] if is_member else []
                    await bus.execute(roles.ChangeGroup(id=group, user_ids=members), SYSTEM)
        except (Conflict, NotFound):
            # Given twice, or taken away without having been given: nothing changes.
            pass
        expected = grants.union(*(sets[held] for held in direct), sets[3] if is_member else ())
        async with database.lookup() as connection:
            caller = await access.caller_of(connection, person, wanted_tenant_id=None)
        assert caller.permissions == expected
