"""The API's process over a data set, and the questions asked of its routes."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import psutil

from benchmarks.api import COMMAND, PASSWORD, Api, answers, processes, until
from benchmarks.dataset.loading import DATABASE
from benchmarks.reading.measure import Cost
from benchmarks.reading.questions import Question, Sample
from shared.postgres.embedded import embedded_address
from shared.settings import Settings
from tests.ports import free_port

# Longer than all measurements take.
TOKEN_LIFE: Final = "1d"


@dataclass
class Routes:
    """The API as a person of the tenant asks it."""

    api: Api
    process: psutil.Process
    # Each request is another one, so that no answer is kept.
    turns: Iterator[int] = field(default_factory=count)

    async def ask(self, question: Question, sample: Sample) -> Cost:
        """Until the whole answer is there."""
        route, sample = question.route, replace(sample, turn=next(self.turns))
        url = f"/telemetry/{route.path.format(trace=sample.trace)}"
        given = route.given(sample)
        if route.is_post:
            answer = await self.api.ask("POST", url, given)
        else:
            answer = await self.api.ask("GET", url, query=given)
        told = answer["meta"]["statistics"]
        return Cost(told["rowsRead"], told["bytesRead"])


@dataclass(frozen=True)
class Started:
    """An API process, and who may sign in."""

    url: str
    process: int
    email: str
    database: dict[str, Any]


@contextmanager
def api_process(clickhouse_port: int) -> Iterator[Started]:
    """PostgreSQL and the API in a temporary folder, ended with the block.

    Without a worker, whose jobs would change the data set.
    """
    folder = Path(tempfile.mkdtemp(prefix="telemetryflow-benchmark-"))
    ports = {
        name: str(free_port()) for name in ("DB_PORT", "PORT", "DIRECTORY_PORT", "API_METRICS_PORT")
    }
    environment = {
        **os.environ,
        **ports,
        "CLICKHOUSE_HOST": "127.0.0.1",
        "CLICKHOUSE_PORT": str(clickhouse_port),
        "CLICKHOUSE_DATABASE": DATABASE,
        "THROTTLE_LIMIT": "1000000",
        "THROTTLE_AUTH_LIMIT": "1000000",
        "JWT_EXPIRATION": TOKEN_LIFE,
        "TELEMETRYFLOW_DATA_DIR": str(folder),
        "LOG_CONSOLE_LEVEL": "error",
    }
    settings = Settings(telemetryflow_data_dir=str(folder), db_port=int(ports["DB_PORT"]))
    try:
        with processes(environment, "api") as running:
            done = subprocess.run(
                [*COMMAND, "init"], env=environment, check=True, capture_output=True, text=True
            )
            email, password = done.stdout.split()[-2:]
            until(lambda: answers(int(ports["API_METRICS_PORT"])))
            url = f"http://127.0.0.1:{ports['PORT']}/api/v2"
            asyncio.run(_settle(url, email, password))
            yield Started(url, running["api"].pid, email, embedded_address(settings).options())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _settle(url: str, email: str, first_password: str) -> None:
    """The first password opens nothing but its own change."""
    async with aiohttp.ClientSession() as session:
        api = Api(url, session)
        await api.sign_in(email, first_password)
        change = {"currentPassword": first_password, "newPassword": PASSWORD}
        await api.ask("POST", "/auth/change-password", change)


@asynccontextmanager
async def routes(started: Started, tenant: str) -> AsyncIterator[Routes]:
    """As the administrator, whose tenant is *tenant* of the data set."""
    connection = await asyncpg.connect(**started.database)
    await connection.execute("UPDATE tenants SET telemetry_id = $1", tenant)
    await connection.close()
    async with aiohttp.ClientSession() as session:
        api = Api(started.url, session)
        await api.sign_in(started.email, PASSWORD)
        yield Routes(api, psutil.Process(started.process))
