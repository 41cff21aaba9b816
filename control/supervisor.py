"""`telemetryflow up`: everything on one machine, as child processes that live and die with it.

Order: the engines, migrations, then gateway, writer, API and worker together. What crashes is
started again, with growing delays. Ctrl-C drains in such an order that what was acknowledged is
stored; a second Ctrl-C ends everything at once (nothing is lost by that).
"""

import asyncio
import ctypes
import fcntl
import os
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import IO, Final

import aiohttp
import asyncpg
import orjson
from rich.console import Console

from shared.directory import PLATFORM_KEY_ID, platform_secret
from shared.errors import Conflict, Unavailable
from shared.postgres.embedded import embedded_address
from shared.security.peppers import Peppers
from shared.settings import Settings

READY_SECONDS_MAX: Final = 60.0
DRAIN_SECONDS_MAX: Final = 60.0
RESTART_SECONDS_MIN: Final = 0.5
RESTART_SECONDS_MAX: Final = 30.0
# A child that ran so long was well: its next restart is without delay.
STEADY_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.05
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Child:
    """One process of the product; *is_ready* tells whether it serves."""

    name: str
    is_ready: Callable[[], Awaitable[bool]]
    stop_signal: int = signal.SIGTERM
    process: asyncio.subprocess.Process | None = None
    started_at: float = 0.0
    restart_seconds: float = field(default=RESTART_SECONDS_MIN)


def up(settings: Settings, options: Namespace) -> int:
    """Run until Ctrl-C or SIGTERM; the exit code."""
    data = settings.data_dir
    data.mkdir(parents=True, exist_ok=True)
    with (data / "up.lock").open("a+") as lock:
        _take_lock(lock, data)
        _end_orphans(data)
        return asyncio.run(Supervisor(settings, demo=options.demo).run())


def _take_lock(lock: IO[str], data: Path) -> None:
    """Conflict when another instance has the data folder."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise Conflict(
            f"TelemetryFlow (pid {lock.read().strip() or 'unknown'}) already runs on {data}: "
            "stop it with Ctrl-C, or choose another folder with --data"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def _end_orphans(data: Path) -> None:
    """End children that a killed supervisor left behind: only those that are surely ours."""
    record = data / "children.json"
    if not record.exists():
        return
    for pid, started in orjson.loads(record.read_bytes()):
        if started_at(pid) == started:
            os.kill(pid, signal.SIGKILL)
        while started_at(pid) == started or _has_threads(pid):
            os.sched_yield()
    record.unlink()


def _has_threads(pid: int) -> bool:
    """Whether threads outlive a process's first one, and so hold its ports and locks."""
    try:
        states = [
            Path(f"/proc/{pid}/task/{task}/stat").read_text().rpartition(")")[2].split()[0]
            for task in os.listdir(f"/proc/{pid}/task")
        ]
    except OSError:
        return False
    return "Z" in states and len(states) > 1


def started_at(pid: int) -> str | None:
    """When a living process was started, in the kernel's words: with the pid, who it is."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _die_with_parent() -> None:
    """In the child: a killed supervisor takes its children along."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Starts, watches and ends the children."""

    def __init__(self, settings: Settings, *, demo: bool) -> None:
        self._settings = settings
        self._demo = demo
        self._console = Console(highlight=False, soft_wrap=True)
        scheme = "https" if settings.ingest_tls_cert_file else "http"
        http = f"{scheme}://127.0.0.1:{settings.ingest_http_port}"
        self._engines = [*_engines(settings)]
        self._own = [
            Child(name, partial(_answers, url))
            for name, url in (
                ("ingest", f"{http}/readyz"),
                ("writer", f"http://127.0.0.1:{settings.writer_metrics_port}/readyz"),
                ("api", f"http://127.0.0.1:{settings.api_metrics_port}/readyz"),
                ("worker", f"http://127.0.0.1:{settings.worker_metrics_port}/readyz"),
            )
        ]
        self._children = [*self._engines, *self._own]
        self._people = ""
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """From the first process to the last; 0 when told to stop, 1 when it could not start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        watching: list[asyncio.Task[None]] = []
        try:
            self._check_ports()
            await self._start_all(self._engines)
            await self._run("migrate")
            self._people = await self._run("init", *(["--demo"] if self._demo else []))
            await self._start_all(self._own)
            watching += [asyncio.create_task(self._watch(child)) for child in self._children]
            self._say_where_everything_is()
            await self._send_demo()
            await self._stopping.wait()
        except _Stopped:
            pass
        finally:
            for task in watching:
                task.cancel()
            await self._drain()
        return 0

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._console.print("ending at once")
            for child in self._children:
                if child.process is not None and child.process.returncode is None:
                    child.process.kill()
            os._exit(130)
        self._stopping.set()

    def _check_ports(self) -> None:
        settings = self._settings
        ports = {
            "INGEST_GRPC_PORT": (settings.listen_host, settings.ingest_grpc_port),
            "INGEST_HTTP_PORT": (settings.listen_host, settings.ingest_http_port),
            "PORT": (settings.api_listen_host, settings.port),
            "INGEST_METRICS_PORT": ("127.0.0.1", settings.ingest_metrics_port),
            "WRITER_METRICS_PORT": ("127.0.0.1", settings.writer_metrics_port),
            "DIRECTORY_PORT": (settings.directory_listen_host, settings.directory_port),
            "API_METRICS_PORT": ("127.0.0.1", settings.api_metrics_port),
            "WORKER_METRICS_PORT": ("127.0.0.1", settings.worker_metrics_port),
        }
        if settings.is_embedded:
            ports["CLICKHOUSE_PORT"] = ("127.0.0.1", settings.clickhouse_port)
        if settings.is_database_embedded:
            ports["DB_PORT"] = ("127.0.0.1", settings.db_port)
        for name, (host, port) in ports.items():
            _check_port(name, host, port)

    async def _start_all(self, children: Sequence[Child]) -> None:
        """Start them at once, and wait until all are ready."""
        names = ", ".join(child.name for child in children)
        with self._console.status(f"starting {names} …"):
            for child in children:
                await self._start(child)
            await asyncio.gather(*map(self._wait_until_ready, children))

    async def _start(self, child: Child) -> None:
        child.process = await asyncio.create_subprocess_exec(
            *command(child.name),
            env={**os.environ, **_environment(self._settings)},
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
            # Ctrl-C on the terminal is for the supervisor, which ends its children in order.
            process_group=0,
        )
        child.started_at = monotonic()
        self._record_children()

    async def _run(self, *arguments: str) -> str:
        """Another command of the product, to its end; what it printed."""
        process = await asyncio.create_subprocess_exec(
            *command(*arguments),
            env={**os.environ, **_environment(self._settings)},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise Unavailable(f"{arguments[0]} failed: see the message above")
        return output.decode()

    async def _wait_until_ready(self, child: Child) -> None:
        deadline = monotonic() + READY_SECONDS_MAX
        while not await child.is_ready():
            if self._stopping.is_set():
                raise _Stopped
            process = child.process
            if process is None or process.returncode is not None:
                raise Unavailable(f"{child.name} did not start: {self._hint(child)}")
            if monotonic() > deadline:
                raise Unavailable(
                    f"{child.name} is not ready after {READY_SECONDS_MAX:.0f} s: "
                    f"{self._hint(child)}"
                )
            await asyncio.sleep(POLL_SECONDS)
        self._console.print(f"{child.name} is up")

    def _hint(self, child: Child) -> str:
        ending = "log" if child.name == "postgres" else "jsonl"
        return f"see {self._settings.data_dir / 'logs' / child.name}.{ending}"

    async def _watch(self, child: Child) -> None:
        """Start it again whenever it ends, until told to stop."""
        while child.process is not None:
            code = await child.process.wait()
            if self._stopping.is_set():
                return
            if monotonic() - child.started_at > STEADY_SECONDS:
                child.restart_seconds = RESTART_SECONDS_MIN
            self._console.print(
                f"{child.name} ended with {code}; starting it again in "
                f"{child.restart_seconds:g} s ({self._hint(child)})"
            )
            await asyncio.sleep(child.restart_seconds)
            child.restart_seconds = min(2 * child.restart_seconds, RESTART_SECONDS_MAX)
            await self._start(child)

    async def _drain(self) -> None:
        """End the children in order, so that what was taken is stored: gateway first."""
        # What these two tell about themselves at their end still finds the gateway.
        order = ("api", "worker", "ingest", "writer", "postgres", "clickhouse")
        deadline = monotonic() + DRAIN_SECONDS_MAX
        for child in sorted(self._children, key=lambda child: order.index(child.name)):
            process = child.process
            if process is None or process.returncode is not None:
                continue
            self._console.print(f"stopping {child.name}")
            process.send_signal(child.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), max(deadline - monotonic(), 1.0))
            except TimeoutError:
                process.kill()
                await process.wait()
        (self._settings.data_dir / "children.json").unlink(missing_ok=True)

    def _record_children(self) -> None:
        pids = [child.process.pid for child in self._children if child.process is not None]
        record = [(pid, started_at(pid)) for pid in pids]
        (self._settings.data_dir / "children.json").write_bytes(orjson.dumps(record))

    def _say_where_everything_is(self) -> None:
        settings = self._settings
        host = settings.listen_host
        say = self._console.print
        say("\nTelemetryFlow is ready.\n")
        say(f"  OTLP/gRPC   {host}:{settings.ingest_grpc_port}")
        say(f"  OTLP/HTTP   http://{host}:{settings.ingest_http_port}")
        say(f"  API         http://localhost:{settings.port}/docs")
        clickhouse = settings.clickhouse_host or "127.0.0.1"
        say(f"  ClickHouse  http://{clickhouse}:{settings.clickhouse_port}")
        say(f"  Metrics     http://127.0.0.1:{settings.ingest_metrics_port}/metrics and ")
        say(f"              http://127.0.0.1:{settings.writer_metrics_port}/metrics")
        say(f"  Data, logs  {settings.data_dir.resolve()}\n")
        if self._people:
            say("Sign in as (shown only now):\n")
            say(f"{self._people}", markup=False)
        say("Any OpenTelemetry SDK on this machine sends here without a setting. To see it work:\n")
        say("  telemetryflow send")
        say('  telemetryflow sql "SELECT ServiceName, count() FROM otel_traces GROUP BY 1"\n')
        say("Ctrl-C stops everything.")

    async def _send_demo(self) -> None:
        if self._demo:
            await asyncio.create_subprocess_exec(
                *command("send"), env={**os.environ, **_environment(self._settings)}
            )


class _Stopped(Exception):
    """Told to stop while starting."""


def command(*arguments: str) -> list[str]:
    """The command line of one of our own processes, in this very installation."""
    return [
        sys.executable,
        "-c",
        "from control.cli import main; raise SystemExit(main())",
        *arguments,
    ]


def _environment(settings: Settings) -> dict[str, str]:
    """What children share: the data folder, the directory of keys, telemetry into the product.

    Who names another endpoint for it, or switches it on or off, is heeded.
    """
    environment = {"TELEMETRYFLOW_DATA_DIR": str(settings.data_dir.resolve())}
    if not settings.directory_address and not settings.directory_tls_cert_file:
        environment["DIRECTORY_ADDRESS"] = f"127.0.0.1:{settings.directory_port}"
    is_elsewhere = settings.otel_exporter_otlp_endpoint or settings.otel_exporter_otlp_headers
    # With TLS, the gateway's certificate is for another name than this machine's own.
    if settings.otel_enabled == "auto" and (is_elsewhere or not settings.ingest_tls_cert_file):
        environment["OTEL_ENABLED"] = "true"
    if not is_elsewhere:
        key = f"{PLATFORM_KEY_ID}:{platform_secret(Peppers.of(settings).current)}"
        environment["OTEL_EXPORTER_OTLP_HEADERS"] = f"x-api-key={key}"
    return environment


def _check_port(name: str, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(
                f"port {port} on {host} cannot be used ({error.strerror}): stop what uses it, or "
                f"set {name} to another port"
            ) from error


def _engines(settings: Settings) -> Iterator[Child]:
    """The engines that this machine serves itself."""
    if settings.is_embedded:
        url = f"http://127.0.0.1:{settings.clickhouse_port}/ping"
        yield Child("clickhouse", partial(_answers, url))
    if settings.is_database_embedded:
        # Fast shutdown: clients are cut off, nothing is lost.
        yield Child("postgres", partial(_takes_connections, settings), signal.SIGINT)


async def _takes_connections(settings: Settings) -> bool:
    try:
        address = embedded_address(settings).at("postgres")
        connection = await asyncpg.connect(**address.options(), timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def _answers(url: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(url, ssl=False) as response,
        ):
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
