"""The directory as gateways follow it: every key and tenant, and within moments every change.

All is held in memory, so that a gateway that comes back costs the database nothing. Changes are
found by the transaction that made them: all that is older than the oldest transaction still running
has been seen, so that is where the next look begins. What is seen twice changes nothing.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg

from shared.directory import new_tenant
from shared.directory.directory_pb2 import (
    FollowRequest,
    FollowResponse,
    Key,
    Limits,
    Quota,
    Tenant,
)
from shared.directory.state import ENTRIES_OF_A_PIECE_MAX, DirectoryState
from shared.errors import TelemetryFlowError, Unavailable
from shared.postgres.address import PostgresAddress
from shared.postgres.connection import CONNECTION_LOST, Connection
from shared.postgres.database import Database
from shared.postgres.scope import PLATFORM

CHANNEL: Final = "directory"
# Without a notice (a connection was lost) changes are looked for so often all the same.
POLL_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 5.0
# A gateway that takes no messages is given up: it comes back and goes on where it was.
PIECES_WAITING_MAX: Final = 1_000
LIMITS: Final = (
    "requests_per_minute",
    "items_per_second",
    "bytes_per_second",
    # Of tenants alone.
    "new_series_per_hour",
    "new_attribute_keys_per_hour",
)

logger = logging.getLogger(__name__)


class DirectoryFeed:
    """Keeps a state equal to the database, and tells followers what changes."""

    def __init__(self, database: Database, retention_days: Mapping[str, int]) -> None:
        self._database = database
        self._retention_days = retention_days
        self._state = DirectoryState()
        self._followers: set[asyncio.Queue[FollowResponse | None]] = set()
        self._is_loaded = asyncio.Event()
        self._noticed = asyncio.Event()

    async def run(self, address: PostgresAddress, stopping: asyncio.Event) -> None:
        """Look for changes until *stopping*: at every notice of the database, and each second."""
        listening = asyncio.create_task(self._listen(address))
        try:
            last_told = 0.0
            while not stopping.is_set():
                self._noticed.clear()
                try:
                    if await self.refresh():
                        last_told = time.monotonic()
                except Exception as error:
                    # Whatever it is: gateways go on with what they know, and it is tried again.
                    is_known = isinstance(error, TelemetryFlowError)
                    logger.warning("the directory stays: %s", error, exc_info=not is_known)
                if self._is_loaded.is_set() and time.monotonic() - last_told >= HEARTBEAT_SECONDS:
                    self._tell([self._end_of_batch()])
                    last_told = time.monotonic()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._noticed.wait(), POLL_SECONDS)
        finally:
            listening.cancel()
            for queue in list(self._followers):
                self._end(queue)

    async def refresh(self) -> bool:
        """Read what changed and tell it; whether anything did."""
        async with self._database.read(PLATFORM) as connection:
            epoch = str(await connection.fetchval("SELECT epoch FROM directory_epoch"))
            # Before the rows are read, in a statement of its own: they are at least as new.
            revision = int(
                await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
            )
            pieces = [piece async for piece in self._changes(connection, self._state.revision)]
        changed = [piece for piece in pieces if self._is_news(piece)]
        for piece in pieces:
            piece.epoch = epoch
            self._state.apply(piece)
        self._state.epoch, self._state.revision = epoch, revision
        self._is_loaded.set()
        if changed:
            self._tell([*changed, self._end_of_batch()])
        return bool(changed)

    async def follow(self, request: FollowRequest) -> AsyncIterator[FollowResponse]:
        """What *request* lacks, and then whatever changes, for ever."""
        await self._is_loaded.wait()
        queue: asyncio.Queue[FollowResponse | None] = asyncio.Queue(PIECES_WAITING_MAX)
        self._followers.add(queue)
        try:
            state = self._state
            begin = FollowResponse(epoch=state.epoch, starts_anew=True)
            since = 0
            if request.epoch == state.epoch and 0 < request.revision <= state.revision:
                begin, since = await self._removals_since(request.revision), request.revision
            # What was told meanwhile is in the state; what is told from here on comes after it.
            while not queue.empty():
                queue.get_nowait()
            pieces, end = state.pieces(since=since), self._end_of_batch()
            yield begin
            for piece in pieces:
                yield piece
            yield end
            while (next_piece := await queue.get()) is not None:
                yield next_piece
            raise Unavailable("the directory ends here: connect again")
        finally:
            self._followers.discard(queue)

    def _tell(self, pieces: Iterable[FollowResponse]) -> None:
        for queue in list(self._followers):
            try:
                for piece in pieces:
                    queue.put_nowait(piece)
            except asyncio.QueueFull:
                self._end(queue)

    def _end(self, queue: "asyncio.Queue[FollowResponse | None]") -> None:
        """Let the follower connect again, after what fits."""
        self._followers.discard(queue)
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)

    def _end_of_batch(self) -> FollowResponse:
        state = self._state
        return FollowResponse(
            epoch=state.epoch,
            revision=state.revision,
            ends_batch=True,
            checksum=state.checksum,
            unix_seconds=int(time.time()),
        )

    def _is_news(self, piece: FollowResponse) -> bool:
        """Whether anything in it was not told yet; what was is taken out."""
        state = self._state
        keys = [key for key in piece.keys if not _is_known(key, state.key(key.id))]
        tenants = [one for one in piece.tenants if not _is_known(one, state.tenants.get(one.name))]
        removed_keys = [one for one in piece.removed_keys if state.key(one) is not None]
        removed_tenants = [one for one in piece.removed_tenants if one in state.tenants]
        piece.Clear()
        piece.MergeFrom(
            FollowResponse(
                keys=keys,
                tenants=tenants,
                removed_keys=removed_keys,
                removed_tenants=removed_tenants,
            )
        )
        return bool(keys or tenants or removed_keys or removed_tenants)

    async def _changes(self, connection: Connection, since: int) -> AsyncIterator[FollowResponse]:
        yield _removals(await connection.fetch(_REMOVALS, str(since)) if since else [])
        async for rows in _pages(connection, _TENANTS, since):
            yield FollowResponse(tenants=map(self._tenant, rows))
        async for rows in _pages(connection, _KEYS, since):
            yield FollowResponse(keys=map(_key, rows))

    async def _removals_since(self, revision: int) -> FollowResponse:
        async with self._database.read(PLATFORM) as connection:
            piece = _removals(await connection.fetch(_REMOVALS, str(revision)))
        piece.epoch = self._state.epoch
        return piece

    def _tenant(self, row: Any) -> Tenant:
        tenant = new_tenant(
            row["telemetry_id"],
            self._retention_days,
            changed=int(row["changed"]),
            is_active=row["is_active"],
        )
        tenant.workspace = str(row["workspace_id"])
        if limits := _limits(row):
            tenant.limits.CopyFrom(limits)
        tenant.quotas.extend(Quota(**one) for one in row["quotas"])
        return tenant

    async def _listen(self, address: PostgresAddress) -> None:
        """Be told by the database, on a connection of its own, again and again."""
        while True:
            with contextlib.suppress(asyncpg.PostgresError, *CONNECTION_LOST):
                connection = await asyncpg.connect(**address.options(), timeout=10)
                try:
                    await connection.add_listener(CHANNEL, lambda *_: self._noticed.set())
                    await _closed(connection)
                finally:
                    await connection.close(timeout=POLL_SECONDS)
            await asyncio.sleep(POLL_SECONDS)


async def _closed(connection: Connection) -> None:
    """Returns when *connection* is gone."""
    closed = asyncio.Event()
    connection.add_termination_listener(lambda _: closed.set())
    await closed.wait()


async def _pages(
    connection: Connection, statement: str, since: int
) -> AsyncIterator[Sequence[Any]]:
    after, is_last = "", False
    while not is_last:
        rows = await connection.fetch(statement, str(since), after, ENTRIES_OF_A_PIECE_MAX)
        # Not until a page is empty: while keys change in order, none ever would be.
        is_last = len(rows) < ENTRIES_OF_A_PIECE_MAX
        if rows:
            yield rows
            after = rows[-1][0]


def _is_known(entry: Tenant | Key, known: Tenant | Key | None) -> bool:
    return known is not None and known.changed == entry.changed


def _key(row: Any) -> Key:
    return Key(
        id=row["key_id"],
        changed=int(row["changed"]),
        tenant=row["telemetry_id"] or "",
        workspace=str(row["workspace_id"] or ""),
        secret_hash=row["secret_hash"],
        pepper_id=row["pepper_id"],
        permissions=row["permissions"],
        works_until=int(row["works_until"]),
        has_ended=row["has_ended"],
        allowed_networks=row["allowed_networks"],
        limits=_limits(row),
    )


def _limits(row: Any) -> Limits | None:
    """Those of *row* that are set; None, which takes no memory, when none is."""
    given = {name: row[name] for name in LIMITS if row.get(name) is not None}
    return Limits(**given) if given else None


def _removals(rows: Iterable[Any]) -> FollowResponse:
    piece = FollowResponse()
    for row in rows:
        names = piece.removed_tenants if row["kind"] == "tenant" else piece.removed_keys
        names.append(row["name"])
    return piece


# Of a plan and a tenant the lower limit, null being none; quotas as messages of the directory.
_TENANTS: Final = """
    SELECT telemetry_id, tenants.workspace_id, tenants.changed_by_xid::text AS changed,
           tenants.is_active AND tenants.deleted_at IS NULL
           AND workspaces.is_active AND workspaces.deleted_at IS NULL
           AND organizations.is_active AND organizations.deleted_at IS NULL AS is_active,
           least(plan.requests_per_minute, own.requests_per_minute) AS requests_per_minute,
           least(plan.items_per_second, own.items_per_second) AS items_per_second,
           least(plan.bytes_per_second, own.bytes_per_second) AS bytes_per_second,
           least(plan.new_series_per_hour, own.new_series_per_hour) AS new_series_per_hour,
           least(plan.new_attribute_keys_per_hour, own.new_attribute_keys_per_hour)
             AS new_attribute_keys_per_hour,
           coalesce(quotas.found, '[]') AS quotas
      FROM tenants
      JOIN workspaces ON workspaces.id = tenants.workspace_id
      JOIN organizations ON organizations.id = tenants.organization_id
      LEFT JOIN organization_plans AS has ON has.organization_id = tenants.organization_id
      LEFT JOIN ingestion_plans AS plan ON plan.name = has.plan
      LEFT JOIN tenant_limits AS own ON own.tenant_id = tenants.id
      LEFT JOIN LATERAL (
           SELECT jsonb_agg(jsonb_build_object(
                    'signal', signal, 'items_max', items_max, 'items_used', items_used,
                    'resets_at', extract(epoch FROM month + interval '1 month')::bigint,
                    'state', 'STATE_' || upper(state),
                    'grace_ends_at', coalesce(extract(epoch FROM grace_ends_at)::bigint, 0)
                  ) ORDER BY signal) AS found
             FROM ingestion_quotas WHERE organization_id = tenants.organization_id
           ) AS quotas ON true
     WHERE tenants.changed_by_xid >= $1::text::xid8 AND telemetry_id > $2
     ORDER BY telemetry_id LIMIT $3
"""
_KEYS: Final = """
    SELECT key_id, api_keys.changed_by_xid::text AS changed, telemetry_id, api_keys.workspace_id,
           secret_hash, pepper_id, permissions, allowed_networks,
           status IN ('revoked', 'expired') AS has_ended,
           extract(epoch FROM least(expires_at, grace_ends_at)) AS works_until,
           requests_per_minute, items_per_second, bytes_per_second
      FROM api_keys LEFT JOIN tenants ON tenants.id = tenant_id
     WHERE api_keys.changed_by_xid >= $1::text::xid8 AND key_id > $2
     ORDER BY key_id LIMIT $3
"""
_REMOVALS: Final = """
    SELECT kind, name FROM directory_removals WHERE changed_by_xid >= $1::text::xid8
"""
