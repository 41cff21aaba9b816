"""The relay: from the outbox to every subscriber, at least once, in order for each aggregate.

First an event is fanned out: one row for each of its subscribers, in the order of the outbox, by
one relay at a time. Then deliveries are carried out, by any number of relays: the subscriber's
effect and the mark that it is done are one transaction, so an effect in PostgreSQL happens exactly
once. A delivery waits while an earlier one of the same aggregate to the same subscriber is not
done; one that keeps failing is dead after a while, stays visible, and lets those after it pass.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg

from shared.caller import SYSTEM, acting_as
from shared.errors import Invalid, TelemetryFlowError
from shared.messaging.events import Envelope, EventBus
from shared.messaging.metrics import DEAD, DELIVERED, DELIVERY_SECONDS, FAILED, RELAYED
from shared.postgres.connection import CONNECTION_LOST, Connection, savepoint
from shared.postgres.database import Database
from shared.postgres.outbox import OUTBOX_CHANNEL
from shared.postgres.scope import PLATFORM

FAN_OUT_MAX: Final = 500
DELIVERIES_MAX: Final = 50
POLL_SECONDS: Final = 1.0
ATTEMPTS_MAX: Final = 10
RETRY_SECONDS_MAX: Final = 300.0
# After PostgreSQL went away.
RECONNECT_SECONDS: Final = 0.5
ERROR_CHARACTERS_MAX: Final = 500
KEPT_DAYS: Final = 7
PRUNED_MAX: Final = 5_000
# Any number, the same for all processes of this product.
_FAN_OUT_KEY: Final = 0x7E1E_F11

logger = logging.getLogger(__name__)

Publish = Callable[[Sequence[Any]], None]


class Relay:
    """Carries events until it is told to stop; *publish* gets each row once, after its commit."""

    def __init__(self, database: Database, bus: EventBus, publish: Publish | None = None) -> None:
        self._database = database
        self._bus = bus
        self._publish = publish
        self._appended = asyncio.Event()
        pairs = [
            (event_type, name)
            for event_type, listeners in bus.subscribers.items()
            for name, _ in listeners
        ]
        self._types = [event_type for event_type, _ in pairs]
        self._names = [name for _, name in pairs]

    async def run(self, stopping: asyncio.Event) -> None:
        """Carry events; a PostgreSQL that is away is waited for."""
        listening = asyncio.create_task(self._listen(stopping))
        try:
            while not stopping.is_set():
                try:
                    moved = await self.carry()
                except Exception as error:
                    # Whatever it is: without a relay events would stay in the outbox, unseen.
                    is_known = isinstance(error, TelemetryFlowError)
                    logger.warning("the relay waits: %s", error, exc_info=not is_known)
                    moved = 0
                    await _wait(stopping, RECONNECT_SECONDS)
                if not moved:
                    await self._sleep(stopping)
        finally:
            # Before Python 3.12 asyncio.wait_for can lose a cancellation.
            while not listening.done():
                listening.cancel()
                await asyncio.wait([listening], timeout=POLL_SECONDS)

    async def carry(self) -> int:
        """One round: fan out what is new, deliver what is due; how much was moved."""
        fanned = await self._fan_out()
        return fanned + await self._deliver()

    async def _fan_out(self) -> int:
        async with self._database.begin(PLATFORM) as connection:
            # One at a time, so that no later event of an aggregate overtakes an earlier one.
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _FAN_OUT_KEY):
                return 0
            rows = await connection.fetch(
                """
                UPDATE outbox SET relayed_at = now()
                 WHERE position IN (SELECT position FROM outbox WHERE relayed_at IS NULL
                                     ORDER BY position LIMIT $1)
                RETURNING position, event_id, event_type, aggregate_id, organization_id, tenant_id,
                          payload, occurred_at
                """,
                FAN_OUT_MAX,
            )
            if rows:
                await connection.execute(
                    """
                    INSERT INTO event_deliveries (event_id, subscriber, position, aggregate_id)
                    SELECT outbox.event_id, listener.name, outbox.position, outbox.aggregate_id
                      FROM outbox JOIN unnest($2::text[], $3::text[]) AS listener (type, name)
                        ON listener.type = outbox.event_type
                     WHERE position = ANY($1)
                    """,
                    [row["position"] for row in rows],
                    self._types,
                    self._names,
                )
        if rows and self._publish is not None:
            self._publish(sorted(rows, key=lambda row: int(row["position"])))
        RELAYED.inc(len(rows))
        return len(rows)

    async def _deliver(self) -> int:
        async with self._database.begin(PLATFORM) as connection:
            due = await connection.fetch(
                """
                SELECT event_id, subscriber, attempts FROM event_deliveries AS delivery
                 WHERE state = 'waiting' AND next_attempt_at <= now()
                   AND NOT EXISTS (
                     SELECT FROM event_deliveries AS earlier
                      WHERE earlier.subscriber = delivery.subscriber
                        AND earlier.aggregate_id = delivery.aggregate_id
                        AND earlier.position < delivery.position AND earlier.state = 'waiting')
                 ORDER BY position LIMIT $1 FOR UPDATE SKIP LOCKED
                """,
                DELIVERIES_MAX,
            )
            for delivery in due:
                await self._deliver_one(connection, delivery)
        return len(due)

    async def _deliver_one(self, connection: Connection, delivery: Any) -> None:
        row = await connection.fetchrow(
            "SELECT *, clock_timestamp() AS now FROM outbox WHERE event_id = $1",
            delivery["event_id"],
        )
        try:
            subscriber = dict(self._bus.subscribers[row["event_type"]])[delivery["subscriber"]]
            event = self._bus.decode(row["event_type"], _envelope(row), row["payload"])
        except (KeyError, Invalid) as error:
            await self._bury(connection, delivery, error)
            return
        try:
            async with savepoint(connection):
                with acting_as(SYSTEM):
                    await subscriber(Envelope(event, row["position"], row["context"]), connection)
        except Exception as error:
            # One subscriber's failure is its own.
            if connection.is_closed():
                # The whole transaction is gone: everything is as before.
                raise
            await self._failed(connection, delivery, error)
            return
        await self._mark(connection, delivery, "done", None)
        DELIVERED.labels(delivery["subscriber"]).inc()
        DELIVERY_SECONDS.observe((row["now"] - row["occurred_at"]).total_seconds())

    async def _failed(self, connection: Connection, delivery: Any, error: Exception) -> None:
        attempts = delivery["attempts"] + 1
        FAILED.labels(delivery["subscriber"]).inc()
        if attempts >= ATTEMPTS_MAX:
            await self._bury(connection, delivery, error)
            return
        seconds = min(RETRY_SECONDS_MAX, 2.0 ** (attempts - 1)) * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries
        logger.warning(
            "%s failed on event %s, again in %.1f s: %s",
            delivery["subscriber"],
            delivery["event_id"],
            seconds,
            error,
        )
        await connection.execute(
            """
            UPDATE event_deliveries
               SET attempts = $3, next_attempt_at = now() + $4 * interval '1 second', error = $5,
                   updated_at = now()
             WHERE event_id = $1 AND subscriber = $2
            """,
            delivery["event_id"],
            delivery["subscriber"],
            attempts,
            seconds,
            _text_of(error),
        )

    async def _bury(self, connection: Connection, delivery: Any, error: Exception) -> None:
        logger.error(
            "event %s is dead for %s: %s", delivery["event_id"], delivery["subscriber"], error
        )
        DEAD.labels(delivery["subscriber"]).inc()
        await self._mark(connection, delivery, "dead", _text_of(error))

    async def _mark(
        self, connection: Connection, delivery: Any, state: str, error: str | None
    ) -> None:
        await connection.execute(
            """
            UPDATE event_deliveries
               SET state = $3, attempts = attempts + 1, error = $4, updated_at = now()
             WHERE event_id = $1 AND subscriber = $2
            """,
            delivery["event_id"],
            delivery["subscriber"],
            state,
            error,
        )

    async def _listen(self, stopping: asyncio.Event) -> None:
        """Be woken when something is appended; polling covers the time without a connection."""
        while not stopping.is_set():
            try:
                async with self._database.pool.acquire(timeout=POLL_SECONDS) as connection:
                    await connection.add_listener(OUTBOX_CHANNEL, self._wake)
                    try:
                        while not (connection.is_closed() or stopping.is_set()):
                            await connection.fetchval("SELECT 1", timeout=POLL_SECONDS)
                            await _wait(stopping, POLL_SECONDS)
                    finally:
                        await connection.remove_listener(OUTBOX_CHANNEL, self._wake)
            except (asyncpg.PostgresError, *CONNECTION_LOST):
                await _wait(stopping, RECONNECT_SECONDS)

    def _wake(self, *_notice: object) -> None:
        self._appended.set()

    async def _sleep(self, stopping: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(one.wait()) for one in (self._appended, stopping)]
        await asyncio.wait(waits, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._appended.clear()


async def prune_outbox(connection: Connection) -> int:
    """Delete events that were relayed a week ago and have no delivery left to do; how many."""
    status = await connection.execute(
        """
        DELETE FROM outbox WHERE position IN (
          SELECT position FROM outbox
           WHERE relayed_at < now() - $1 * interval '1 day' AND audited_at IS NOT NULL
             AND NOT EXISTS (SELECT FROM event_deliveries
                   WHERE event_deliveries.position = outbox.position
                     AND state IN ('waiting', 'dead'))
           LIMIT $2)
        """,
        KEPT_DAYS,
        PRUNED_MAX,
    )
    return int(status.split()[-1])


def _envelope(row: Any) -> dict[str, Any]:
    names = ("aggregate_id", "organization_id", "tenant_id", "event_id", "occurred_at")
    return {name: row[name] for name in names}


def _text_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
