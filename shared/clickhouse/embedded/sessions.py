"""Sessions: handles that outlive their request, with their temporary tables and settings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Final

from shared.clickhouse.embedded.engine import Engine, Handle
from shared.clickhouse.embedded.replies import refusal
from shared.clickhouse.embedded.requests import DEFAULT_SETTINGS, Call, session_seconds
from shared.clickhouse.embedded.work import Threads

SESSIONS_MAX: Final = 100


@dataclass(slots=True)
class Session:
    """One handle, lent to one request at a time."""

    handle: Handle
    seconds: float
    expires_at: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sessions:
    """The sessions by id; those that expired are closed when the next request comes."""

    def __init__(self, engine: Engine, threads: Threads) -> None:
        self._engine = engine
        self._threads = threads
        self._sessions: dict[str, Session] = {}

    @asynccontextmanager
    async def lend(self, session_id: str, call: Call) -> AsyncIterator[Handle]:
        """The session's handle, with the settings of *call* for the duration of the block."""
        await self._expire()
        session = self._sessions.get(session_id) or await self._open(session_id, call)
        if session.lock.locked():
            raise refusal("SESSION_IS_LOCKED", f"session {session_id!r} is busy")
        async with session.lock:
            try:
                handle = session.handle
                before = await self._threads.run(partial(_prepare, handle, call))
                try:
                    yield handle
                finally:
                    names = (*_settings(call),)
                    await asyncio.shield(self._threads.run(partial(handle.restore, before, names)))
            finally:
                session.seconds = session_seconds(call.request)
                session.expires_at = monotonic() + session.seconds

    def close(self) -> None:
        """Close all handles."""
        for session in self._sessions.values():
            session.handle.close()

    async def _open(self, session_id: str, call: Call) -> Session:
        if call.request.query.get("session_check") == "1":
            raise refusal("SESSION_NOT_FOUND", f"no session {session_id!r}")
        if len(self._sessions) >= SESSIONS_MAX:
            raise refusal("TOO_MANY_SIMULTANEOUS_QUERIES", f"more than {SESSIONS_MAX} sessions")
        session = Session(
            await self._threads.run(partial(_opened, self._engine, call.database)), 0.0, monotonic()
        )
        return self._sessions.setdefault(session_id, session)

    async def _expire(self) -> None:
        now = monotonic()
        expired = [
            session_id
            for session_id, session in self._sessions.items()
            if session.expires_at < now and not session.lock.locked()
        ]
        for session_id in expired:
            await self._threads.run(self._sessions.pop(session_id).handle.close)


def _opened(engine: Engine, database: str) -> Handle:
    handle = engine.handle(database)
    handle.set(DEFAULT_SETTINGS)
    return handle


def _settings(call: Call) -> dict[str, str]:
    """Without readonly: a handle would keep it for ever, so `_prepare` sees to it."""
    settings = {**call.settings, "log_comment": call.comment}
    settings.pop("readonly", None)
    return settings


def _prepare(handle: Handle, call: Call) -> dict[str, str]:
    """Apply the settings of *call*; gives the values that they had."""
    if call.readonly != "0" and not handle.only_reads(call.statement):
        raise refusal("READONLY", "Cannot execute query in readonly mode")
    settings = _settings(call)
    before = handle.changed(settings)
    handle.set(settings)
    return before
