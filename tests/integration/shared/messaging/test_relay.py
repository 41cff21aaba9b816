"""The relay on a real PostgreSQL: nothing is lost, nothing is done twice, order is kept."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.messaging.events import Envelope, Event, EventBus
from shared.messaging.relay import ATTEMPTS_MAX, Relay, prune_outbox
from shared.postgres import database as database_module
from shared.postgres.address import PostgresAddress
from shared.postgres.connection import Connection
from shared.postgres.database import Database
from shared.postgres.outbox import append_to_outbox
from shared.postgres.scope import PLATFORM, Scope
from tests.postgres.fixtures import migrated
from tests.postgres.server import PostgresServer

ROOT = Path(__file__).parents[4]
SECONDS_MAX = 60.0
EVENTS = 100


@dataclass(frozen=True, kw_only=True)
class ThingHappened(Event):
    """An event of these tests."""

    number: int


async def note(envelope: Envelope, connection: Connection) -> None:
    """The effect of the subscribers of these tests: a row for each time that they ran."""
    event = envelope.event
    assert isinstance(event, ThingHappened)
    await connection.execute(
        "INSERT INTO effects (aggregate_id, number) VALUES ($1, $2)",
        event.aggregate_id,
        event.number,
    )


def bus() -> EventBus:
    return EventBus([ThingHappened], [{ThingHappened: {"test.note": note}}])


async def append(database: Database, *numbers: int, to: UUID) -> None:
    async with database.begin(PLATFORM) as connection:
        events = [ThingHappened(aggregate_id=to, number=number) for number in numbers]
        await append_to_outbox(connection, events)


async def effects(database: Database, aggregate_id: UUID) -> list[int]:
    rows = await database.pool.fetch(
        "SELECT number FROM effects WHERE aggregate_id = $1 ORDER BY id", aggregate_id
    )
    return [row["number"] for row in rows]


async def with_effects(address: PostgresAddress) -> None:
    owner = await asyncpg.connect(**address.options())
    await owner.execute(
        "CREATE TABLE effects (id bigserial PRIMARY KEY, aggregate_id uuid, number int)"
    )
    await owner.close()


@pytest.fixture
async def things(database_address: PostgresAddress) -> AsyncIterator[Database]:
    """A database in which effects can be seen."""
    await with_effects(database_address)
    database = await Database.open(database_address, size_max=10, statement_seconds_max=10)
    yield database
    await database.close()


async def carry_all(relay: Relay) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while await relay.carry():
            pass


async def test_G18_events_arrive_in_order_and_once(things: Database) -> None:
    aggregate = uuid4()
    await append(things, 1, 2, 3, to=aggregate)
    await append(things, 4, to=aggregate)

    await carry_all(Relay(things, bus()))
    await carry_all(Relay(things, bus()))

    assert await effects(things, aggregate) == [1, 2, 3, 4]


async def test_G18_a_transaction_that_rolls_back_tells_nobody(things: Database) -> None:
    aggregate = uuid4()

    async def fail() -> None:
        async with things.begin(PLATFORM) as connection:
            await append_to_outbox(connection, [ThingHappened(aggregate_id=aggregate, number=1)])
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail()
    await carry_all(Relay(things, bus()))

    assert await effects(things, aggregate) == []


async def test_G18_a_failing_subscriber_holds_back_its_aggregate_and_nothing_else(
    things: Database,
) -> None:
    stuck, free = uuid4(), uuid4()
    broken = True

    async def fail_on_one(envelope: Envelope, connection: Connection) -> None:
        await note(envelope, connection)
        if broken and envelope.event.aggregate_id == stuck:
            raise RuntimeError("not today")

    relay = Relay(
        things,
        EventBus(
            [ThingHappened],
            [{ThingHappened: {"test.fail": fail_on_one, "test.other": note}}],
        ),
    )
    await append(things, 1, 2, to=stuck)
    await append(things, 1, 2, to=free)
    await carry_all(relay)

    assert await effects(things, stuck) == [1, 2]  # of the other subscriber alone
    assert sorted(await effects(things, free)) == [1, 1, 2, 2]
    broken = False
    await things.pool.execute("UPDATE event_deliveries SET next_attempt_at = now()")
    await carry_all(relay)
    assert (await effects(things, stuck))[2:] == [1, 2]


async def test_an_event_that_keeps_failing_is_dead_visible_and_lets_others_pass(
    things: Database,
) -> None:
    aggregate = uuid4()

    async def fail_on_first(envelope: Envelope, connection: Connection) -> None:
        await note(envelope, connection)
        if isinstance(envelope.event, ThingHappened) and envelope.event.number == 1:
            raise RuntimeError("never")

    relay = Relay(
        things, EventBus([ThingHappened], [{ThingHappened: {"test.fail": fail_on_first}}])
    )
    await append(things, 1, 2, to=aggregate)
    for _ in range(ATTEMPTS_MAX):
        await things.pool.execute("UPDATE event_deliveries SET next_attempt_at = now()")
        await carry_all(relay)

    dead = await things.pool.fetch("SELECT * FROM event_deliveries WHERE state = 'dead'")
    assert [(row["attempts"], row["error"]) for row in dead] == [
        (ATTEMPTS_MAX, "RuntimeError: never")
    ]
    assert await effects(things, aggregate) == [2]


async def test_an_event_that_nobody_can_read_is_dead_at_once(things: Database) -> None:
    aggregate = uuid4()
    await append(things, 1, to=aggregate)
    await things.pool.execute("UPDATE outbox SET payload = $1", {"number": "x"})

    await carry_all(Relay(things, bus()))

    states = await things.pool.fetch("SELECT state FROM event_deliveries")
    assert [row["state"] for row in states] == ["dead"]


async def test_G18_two_relays_do_each_effect_once(things: Database) -> None:
    aggregates = [uuid4() for _ in range(20)]
    for number in range(10):
        for aggregate in aggregates:
            await append(things, number, to=aggregate)

    stopping = asyncio.Event()
    relays = [asyncio.create_task(Relay(things, bus()).run(stopping)) for _ in range(3)]
    async with asyncio.timeout(SECONDS_MAX):
        while await things.pool.fetchval("SELECT count(*) FROM effects") < 200:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    stopping.set()
    await asyncio.gather(*relays)

    for aggregate in aggregates:
        assert await effects(things, aggregate) == list(range(10))


CRASHING = """
import asyncio, os, signal, sys
sys.path.insert(0, {root!r})
from shared.messaging.relay import Relay
from shared.postgres.address import PostgresAddress
from shared.postgres.database import Database
from tests.integration.shared.messaging.test_relay import ThingHappened, note
from shared.messaging.events import EventBus

async def die(envelope, connection):
    await note(envelope, connection)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    address = PostgresAddress(**eval(sys.stdin.read()))
    database = await Database.open(address, size_max=4, statement_seconds_max=10)
    bus = EventBus([ThingHappened], [{{ThingHappened: {{"test.note": die}}}}])
    await Relay(database, bus).run(asyncio.Event())

asyncio.run(main())
"""


async def test_G18_a_relay_killed_between_effect_and_commit_leaves_no_effect(
    things: Database, database_address: PostgresAddress
) -> None:
    aggregate = uuid4()
    await append(things, 1, to=aggregate)

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CRASHING.format(root=str(ROOT)),
        cwd=ROOT,
        env=os.environ,
        stdin=subprocess.PIPE,
    )
    await process.communicate(repr(database_address.options()).encode())
    assert process.returncode == -9
    assert await effects(things, aggregate) == []
    async with asyncio.timeout(SECONDS_MAX):
        while not await effects(things, aggregate):
            await Relay(things, bus()).carry()
            await asyncio.sleep(0.05)

    assert await effects(things, aggregate) == [1]


async def test_F43_PostgreSQL_killed_in_the_middle_loses_and_doubles_nothing(
    own_postgres: PostgresServer,
) -> None:
    address = await migrated(own_postgres)
    await with_effects(address)
    database = await Database.open(address, size_max=5, statement_seconds_max=10)
    aggregate = uuid4()
    await append(database, *range(EVENTS), to=aggregate)
    stopping = asyncio.Event()
    relay = asyncio.create_task(Relay(database, bus()).run(stopping))
    async with asyncio.timeout(SECONDS_MAX):
        while not await effects(database, aggregate):
            await asyncio.sleep(0.01)

    own_postgres.kill()
    await asyncio.to_thread(own_postgres.start)
    async with asyncio.timeout(SECONDS_MAX):
        while len(await effects(database, aggregate)) < EVENTS:
            await asyncio.sleep(0.1)
    stopping.set()
    await relay

    assert await effects(database, aggregate) == list(range(EVENTS))
    await database.close()


async def test_F43_a_relay_outlives_a_statement_on_a_connection_that_has_just_died(
    things: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg then raises its InternalClientError, which is none of PostgreSQL's errors."""
    lost = iter([asyncpg.InternalClientError("another operation is in progress")])
    enter = database_module.enter

    async def enter_dead_once(connection: Connection, scope: Scope, begin: str) -> None:
        for error in lost:
            raise error
        await enter(connection, scope, begin)

    aggregate = uuid4()
    await append(things, 1, to=aggregate)
    monkeypatch.setattr(database_module, "enter", enter_dead_once)
    stopping = asyncio.Event()
    relay = asyncio.create_task(Relay(things, bus()).run(stopping))
    async with asyncio.timeout(SECONDS_MAX):
        while not (relay.done() or await effects(things, aggregate)):
            await asyncio.sleep(0.02)
    stopping.set()
    await relay

    assert await effects(things, aggregate) == [1]


async def test_relayed_events_are_pruned_after_a_week_and_dead_ones_stay(
    things: Database,
) -> None:
    await append(things, 1, to=uuid4())
    await append(things, 2, to=uuid4())
    await carry_all(Relay(things, bus()))
    await things.pool.execute(
        """
        UPDATE event_deliveries SET state = 'dead'
         WHERE position = (SELECT max(position) FROM event_deliveries)
        """
    )
    await things.pool.execute(
        "UPDATE outbox SET audited_at = now(), relayed_at = now() - interval '8 days'"
    )

    async with things.begin(PLATFORM) as connection:
        assert await prune_outbox(connection) == 1
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 1
