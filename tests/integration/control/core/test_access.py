"""What a person may do: the database's answer beside a model of it, through random changes."""

import contextlib
import random
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from control.core.access import Access
from control.core.commands import people, roles
from control.core.domain.permissions import PERMISSIONS
from control.core.repository.core import CoreRepositories
from shared.caller import SYSTEM
from shared.errors import Conflict, NotFound
from shared.messaging.commands import Command, CommandBus
from shared.postgres.database import Database, UnitOfWork
from tests.control.core_api import caller_now
from tests.control.people import seed

STEPS = 60
NAMES = ("dashboards:read", "dashboards:write", "alerts:read", "logs:read", "user:read")


@dataclass
class Model:
    """One person: how the product is told to change, and what must follow."""

    bus: CommandBus
    person: UUID
    group: UUID
    made: list[UUID]
    sets: list[frozenset[str]]
    direct: set[int] = field(default_factory=set)
    grants: set[str] = field(default_factory=set)
    is_member: bool = False

    @property
    def expected(self) -> frozenset[str]:
        of_group = self.sets[3] if self.is_member else frozenset[str]()
        return frozenset(self.grants.union(*(self.sets[one] for one in self.direct), of_group))

    async def change(self, kind: int, one: int, name: str) -> None:
        """One change; Conflict or NotFound when it changes nothing."""
        role, permission = self.made[one], PERMISSIONS[name].id
        match kind:
            case 0:
                await self._tell(people.AssignRole(user_id=self.person, role_id=role))
                self.direct.add(one)
            case 1:
                await self._tell(people.RevokeRole(user_id=self.person, role_id=role))
                self.direct.discard(one)
            case 2:
                await self._tell(
                    people.GrantPermission(user_id=self.person, permission_id=permission)
                )
                self.grants.add(name)
            case 3:
                await self._tell(
                    people.RevokePermission(user_id=self.person, permission_id=permission)
                )
                self.grants.discard(name)
            case _:
                members = [] if self.is_member else [self.person]
                await self._tell(roles.ChangeGroup(id=self.group, user_ids=members))
                self.is_member = not self.is_member

    async def _tell(self, command: Command[None]) -> None:
        await self.bus.execute(command, SYSTEM)


async def model(database: Database, chance: random.Random) -> Model:
    """A person without any permission, four roles and a group that has the last one."""
    organization = (await seed(database)).organization
    work = UnitOfWork(database, CoreRepositories)
    bus = CommandBus([people.handlers(work), roles.handlers(work)])
    person = await bus.execute(
        people.InviteUser(
            organization_id=organization,
            email="model@example.com",
            first_name="M",
            last_name="M",
        ),
        SYSTEM,
    )
    sets = [frozenset(chance.sample(NAMES, 2)) for _ in range(4)]
    made = []
    for number, names in enumerate(sets):
        role = roles.CreateRole(
            organization_id=organization,
            name=f"R{number}",
            description="",
            level=4,
            permissions=sorted(names),
        )
        made.append(await bus.execute(role, SYSTEM))
    group = roles.CreateGroup(
        organization_id=organization, name="G", description="", role_ids=[made[3]]
    )
    return Model(bus, person, await bus.execute(group, SYSTEM), made, sets)


@pytest.mark.parametrize("number", range(4))
async def test_S37_roles_groups_and_grants_add_up_to_what_is_allowed(
    database: Database, number: int
) -> None:
    chance = random.Random(number)
    modelled = await model(database, chance)
    access = Access(database)
    for _ in range(STEPS):
        # Given twice, or taken away without having been given: nothing changes.
        with contextlib.suppress(Conflict, NotFound):
            await modelled.change(chance.randrange(5), chance.randrange(3), chance.choice(NAMES))
        caller = await caller_now(database, access, modelled.person)
        assert caller.permissions == modelled.expected
