"""Whether the engines that the control plane stands on answer."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp

from shared.postgres.database import Database
from shared.settings import Settings

CHECK_SECONDS_MAX: Final = 2.0


class State(StrEnum):
    """How an engine, or all of it, is."""

    HEALTHY = "healthy"
    # It works, but not all of it.
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Report:
    """The state of the whole, and of each engine."""

    state: State
    engines: dict[str, State]


class Health:
    """Asks each engine, all at once, for two seconds at most."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def report(self) -> Report:
        """Without PostgreSQL nothing works; without another engine, a part."""
        asked: dict[str, Awaitable[bool]] = {
            "postgres": self._database.is_up(),
            "clickhouse": self._is_clickhouse_up(),
        }
        for name, host, port in self._optional():
            asked[name] = _accepts(host, port)
        answers = await asyncio.gather(*map(_within_time, asked.values()))
        engines = {
            name: State.HEALTHY if is_up else State.UNHEALTHY
            for name, is_up in zip(asked, answers, strict=True)
        }
        if engines["postgres"] is State.UNHEALTHY:
            return Report(State.UNHEALTHY, engines)
        worst = State.HEALTHY if all(answers) else State.DEGRADED
        return Report(worst, engines)

    def _optional(self) -> list[tuple[str, str, int]]:
        found = []
        if self._settings.redis_host:
            found.append(("redis", self._settings.redis_host, self._settings.redis_port))
        if self._settings.nats_url:
            host, _, port = self._settings.nats_url.rpartition("/")[2].rpartition(":")
            found.append(("nats", host, int(port or 4222)))
        return found

    async def _is_clickhouse_up(self) -> bool:
        host = self._settings.clickhouse_host or "127.0.0.1"
        url = f"http://{host}:{self._settings.clickhouse_port}/ping"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 200


async def _accepts(host: str, port: int) -> bool:
    _reader, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True


async def _within_time(check: Awaitable[bool]) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            return await check
    except (OSError, TimeoutError, aiohttp.ClientError):
        return False
