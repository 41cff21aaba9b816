"""The control plane under load: latency of the API, sign-ins, and events, on engines of its own.

    python -m benchmarks.api [--rate 300] [--seconds 10]

Starts the embedded PostgreSQL, the API and the worker in a temporary folder, and asks them on a
fixed schedule (an answer that is late does not hold the next request back), so that waiting counts.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import orjson
import psutil

from shared.postgres.embedded import embedded_address
from shared.settings import Settings
from tests.ports import free_port

START_SECONDS_MAX: Final = 60.0
PASSWORD: Final = "Correct-Horse-7-battery"
SIGN_INS: Final = 40
SIGN_INS_AT_ONCE: Final = 8
ADDRESSES: Final = 60
COMMAND: Final = [sys.executable, "-c", "from control.cli import main; raise SystemExit(main())"]


@contextlib.contextmanager
def processes(
    environment: dict[str, str], *names: str
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """PostgreSQL and, unless others are named, the API and the worker; ended with the block."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        running["postgres"] = subprocess.Popen([*COMMAND, "postgres"], env=environment)
        until(lambda: _ran("migrate", "--store", "postgres", environment=environment))
        for name in names or ("api", "worker"):
            running[name] = subprocess.Popen([*COMMAND, name], env=environment)
        yield running
    finally:
        for process in reversed(running.values()):
            process.send_signal(signal.SIGINT)
            process.wait(30)


def until(holds: Callable[[], bool]) -> None:
    """Wait for something to start; SystemExit when it does not."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("it did not start")
        time.sleep(0.2)


def _ran(*arguments: str, environment: dict[str, str]) -> bool:
    done = subprocess.run([*COMMAND, *arguments], env=environment, check=False, capture_output=True)
    return done.returncode == 0


async def at_rate(
    ask: Callable[[int], Awaitable[None]], rate: float, seconds: float
) -> list[float]:
    """Milliseconds from when each request was due to its answer."""
    begun = time.perf_counter()

    async def one(number: int) -> float:
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await ask(number)
        return (time.perf_counter() - due) * 1_000

    return await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))


def shown(name: str, values: list[float], note: str = "") -> None:
    """One line: how many, the median, p95 and p99."""
    cuts = statistics.quantiles(values, n=100)
    print(f"{name:<34}{len(values):>7}{cuts[49]:>9.1f}{cuts[94]:>9.1f}{cuts[98]:>9.1f}  {note}")


class Api:
    """A signed-in administrator."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._headers: dict[str, str] = {}

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        expected: int = 200,
        *,
        query: dict[str, Any] | None = None,
    ) -> Any:
        """One request; its JSON."""
        async with self._session.request(
            method, f"{self._url}{path}", json=body, params=query, headers=self._headers
        ) as answer:
            if answer.status != expected:
                raise SystemExit(f"{method} {path}: {answer.status} {await answer.text()}")
            return orjson.loads(await answer.read())

    async def sign_in(self, email: str, password: str) -> None:
        """Go on as this person."""
        answer = await self.ask("POST", "/auth/login", {"email": email, "password": password})
        self._headers = {"Authorization": f"Bearer {answer['accessToken']}"}


async def measure(url: str, admin: tuple[str, str], settings: Settings, options: Any) -> None:
    """All measurements, printed as they come."""
    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(connector=connector) as session:
        api = Api(url, session)
        email, first_password = admin
        await api.sign_in(email, first_password)
        change = {"currentPassword": first_password, "newPassword": PASSWORD}
        await api.ask("POST", "/auth/change-password", change)
        workspace = (await api.ask("GET", "/workspaces"))["data"][0]["id"]

        async def get_one(_number: int) -> None:
            await api.ask("GET", f"/workspaces/{workspace}")

        async def list_all(_number: int) -> None:
            await api.ask("GET", "/workspaces?limit=20")

        async def create(number: int) -> None:
            body = {"name": f"W {number}", "slug": f"w-{os.getpid()}-{number}"}
            await api.ask("POST", "/workspaces", body, 201)

        async def me(_number: int) -> None:
            await api.ask("GET", "/auth/me")

        print(f"{'':<34}{'asked':>7}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}")
        for name, ask in (
            ("get", get_one),
            ("list", list_all),
            ("create", create),
            ("me (authentication alone)", me),
        ):
            before = _cpu_seconds()
            values = await at_rate(ask, options.rate, options.seconds)
            of_api, of_postgres = (
                (after - begun) / len(values) * 1_000
                for begun, after in zip(before, _cpu_seconds(), strict=True)
            )
            note = f"{of_api:.2f} ms CPU of the API, {of_postgres:.2f} of PostgreSQL"
            shown(f"{name} at {options.rate:.0f}/s", values, note)
        await _sign_ins(api, email)
        await _enumeration(api)
        await _events(settings)


async def _sign_ins(api: Api, email: str) -> None:
    body = {"email": email, "password": PASSWORD}
    values: list[float] = []
    gate = asyncio.Semaphore(SIGN_INS_AT_ONCE)

    async def one() -> None:
        async with gate:
            begun = time.perf_counter()
            await api.ask("POST", "/auth/login", body)
            values.append((time.perf_counter() - begun) * 1_000)

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(SIGN_INS)))
    seconds = time.perf_counter() - begun
    shown(f"sign-in, {SIGN_INS_AT_ONCE} at once", values, f"{SIGN_INS / seconds:.1f} a second")


async def _enumeration(api: Api) -> None:
    """Whether times tell who has an account: known and unknown addresses in turns, one by one."""
    known = [f"known{number}@example.com" for number in range(ADDRESSES)]
    person = {"password": PASSWORD, "firstName": "A", "lastName": "B"}
    for email in known:
        await api.ask("POST", "/auth/register", {"email": email, **person}, 201)
    unknown = [f"unknown{number}@example.com" for number in range(ADDRESSES)]
    asked: dict[str, tuple[dict[str, str], int]] = {
        "login": ({"password": "Wrong-Horse-7-battery"}, 401),
        "forgot-password": ({}, 202),
        "resend-verification": ({}, 202),
        "register": (person, 201),
    }
    for route, (body, expected) in asked.items():
        times: dict[str, list[float]] = {"known": [], "unknown": []}
        for pair in zip(known, unknown, strict=True):
            for kind, email in zip(times, pair, strict=True):
                begun = time.perf_counter()
                await api.ask("POST", f"/auth/{route}", {"email": email, **body}, expected)
                times[kind].append((time.perf_counter() - begun) * 1_000)
        for kind, values in times.items():
            shown(f"{route}, {kind} address", values)


async def _events(settings: Settings) -> None:
    """From the commit of an event to the end of its subscriber, as the database saw both."""
    await asyncio.sleep(2)
    address = embedded_address(settings)
    connection = await asyncpg.connect(**address.options())
    rows = await connection.fetch(
        """
        SELECT extract(epoch FROM delivered.updated_at - occurred_at) * 1000 AS milliseconds
          FROM event_deliveries AS delivered JOIN outbox USING (event_id)
         WHERE state = 'done'
        """
    )
    await connection.close()
    values = [float(row["milliseconds"]) for row in rows]
    if len(values) > 1:
        shown("event to subscriber", values)


def _cpu_seconds() -> tuple[float, float]:
    """Of the API's process, and of all of PostgreSQL's."""
    postgres = psutil.Process(_PIDS["postgres"])
    backends = [postgres, *postgres.children(recursive=True)]
    return _used([psutil.Process(_PIDS["api"])]), _used(backends)


def _used(processes: list[psutil.Process]) -> float:
    used = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
    return used


_PIDS: dict[str, int] = {}


def main() -> None:
    """Start everything, measure, end everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetryflow-benchmark-"))
    ports = {
        name: str(free_port())
        for name in ("DB_PORT", "PORT", "DIRECTORY_PORT", "API_METRICS_PORT", "WORKER_METRICS_PORT")
    }
    limits = {"THROTTLE_LIMIT": "1000000", "THROTTLE_AUTH_LIMIT": "1000000"}
    environment = {
        **os.environ,
        **ports,
        **limits,
        "TELEMETRYFLOW_DATA_DIR": str(folder),
        "LOG_CONSOLE_LEVEL": "error",
    }
    settings = Settings(telemetryflow_data_dir=str(folder), db_port=int(ports["DB_PORT"]))
    try:
        with processes(environment) as running:
            _PIDS.update({name: process.pid for name, process in running.items()})
            done = subprocess.run(
                [*COMMAND, "init"], env=environment, check=True, capture_output=True, text=True
            )
            email, password = done.stdout.split()[-2:]
            url = f"http://127.0.0.1:{ports['PORT']}/api/v2"
            until(lambda: answers(int(ports["API_METRICS_PORT"])))
            asyncio.run(measure(url, (email, password), settings, options))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers(port: int) -> bool:
    """Whether the process with these metrics is ready."""
    with contextlib.suppress(OSError):
        import urllib.request  # noqa: PLC0415 - only here

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
            return True
    return False


if __name__ == "__main__":
    main()
