"""The product as a user runs it: real processes on one machine, that tests can kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from prometheus_client.parser import text_string_to_metric_families

from shared.directory.state import DirectoryState
from shared.faults import CRASH_VARIABLE
from tests.directory_states import save_directory
from tests.ports import free_ports

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = (sys.executable, "-c", "from control.cli import main; raise SystemExit(main())")
START_SECONDS_MAX: Final = 40
STOP_SECONDS_MAX: Final = 20
STORED_SECONDS_MAX: Final = 30
POLL_SECONDS: Final = 0.05
OUTPUT_CHARACTERS_MAX: Final = 4_000

Row = dict[str, Any]


def wait_for(what: str, holds: Callable[[], bool], seconds_max: float) -> None:
    """Returns as soon as *holds* does; AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds_max
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds_max} s")
        time.sleep(POLL_SECONDS)


def accepts_connections(port: int) -> bool:
    """Whether something listens on that port of the loopback interface."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Product:
    """ClickHouse, gateway and writer of one data folder, on ports of their own.

    On a log in Kafka there may be more gateways and writers: `ingest-2`, `writer-2` and so on, with
    data folders of their own. A context manager: nothing that it started outlives it.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str] | None = None,
        *,
        gateways: int = 1,
        writers: int = 1,
        clickhouse_port: int | None = None,
        own_clickhouse_port: int | None = None,
    ) -> None:
        """*clickhouse_port* is where its clients go: a proxy in front of *own_clickhouse_port*."""
        clickhouse = own_clickhouse_port or free_ports(1)[0]
        self._clickhouse_port = clickhouse
        self._data_dir = data_dir
        self._output_dir = data_dir / "output"
        self._output_dir.mkdir(parents=True)
        self.settings = {
            "TELEMETRYFLOW_ENV": "test",
            "TELEMETRYFLOW_DATA_DIR": str(data_dir / "data"),
            "CLICKHOUSE_PORT": str(clickhouse_port or clickhouse),
            "WRITER_BATCH_WAIT_MS": "100",
            # The same for all gateways, which otherwise make one each in their data folders.
            "API_KEY_PEPPER": "a pepper for tests",
            **(settings or {}),
        }
        # Of single processes, beyond `settings`.
        self.own_settings: dict[str, dict[str, str]] = {
            "clickhouse": {"CLICKHOUSE_PORT": str(clickhouse)}
        }
        self._ready: dict[str, Callable[[], bool]] = {"clickhouse": self._clickhouse_answers}
        self.http_ports: list[int] = []
        self.grpc_ports: list[int] = []
        for name in _numbered("ingest", gateways):
            self._add_gateway(name, data_dir)
        for name in _numbered("writer", writers):
            self._add_writer(name, data_dir)
        self.http_port, self.grpc_port = self.http_ports[0], self.grpc_ports[0]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self.start("clickhouse")
            self.command("migrate", "--store", "clickhouse")
            for name in self.names[1:]:
                self.start(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def names(self) -> list[str]:
        """All processes, in the order in which they are started."""
        return list(self._ready)

    def close(self) -> None:
        """Ends every process that still runs, the readers of ClickHouse first."""
        for name in reversed(self.names):
            process = self._processes.pop(name, None)
            if process is not None:
                _end(process)

    def start(self, name: str, *, crash_at: str = "") -> None:
        """Starts a process of `names` and waits until it serves.

        With *crash_at*, a crash point of `shared.faults`, it may be gone again at once.
        """
        env = {**_plain_environment(), **self.settings, **self.own_settings[name]}
        if crash_at:
            env[CRASH_VARIABLE] = crash_at
        with (self._output_dir / f"{name}.txt").open("ab") as output:
            process = subprocess.Popen(
                [*COMMAND, name.partition("-")[0]],
                cwd=ROOT,
                env=env,
                stdout=output,
                stderr=output,
            )
        self._processes[name] = process
        ready = self._ready[name]
        wait_for(
            f"start of {name}", lambda: process.poll() is not None or ready(), START_SECONDS_MAX
        )
        if process.returncode is not None and not (crash_at and process.returncode == -9):
            raise AssertionError(f"{name} ended: {self.output_of(name)}")

    def pid(self, name: str) -> int:
        """Id of a process that was started."""
        return self._processes[name].pid

    def pause(self, name: str) -> None:
        """SIGSTOP: connections stay open and nothing happens."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Lets a paused process go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def kill(self, name: str) -> None:
        """Ends a process as a power cut would."""
        process = self._processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait(STOP_SECONDS_MAX)

    def stop(self, name: str) -> int:
        """Asks a process to end and returns its exit code."""
        process = self._processes[name]
        process.terminate()
        return process.wait(STOP_SECONDS_MAX)

    def has_ended(self, name: str) -> bool:
        """Whether a process that was started is gone."""
        return self._processes[name].poll() is not None

    def wait_until_ended(self, name: str) -> None:
        """Returns when a process with a crash point has reached it."""
        wait_for(f"crash of {name}", lambda: self.has_ended(name), STORED_SECONDS_MAX)

    def output_of(self, name: str) -> str:
        """The end of what a process printed."""
        text = (self._output_dir / f"{name}.txt").read_text(errors="replace")
        return text[-OUTPUT_CHARACTERS_MAX:]

    def metrics(self, name: str) -> dict[str, list[float]]:
        """What a gateway or writer measures of itself: the values of each metric, of all labels."""
        settings = self.own_settings[name].items()
        (port,) = (text for setting, text in settings if setting.endswith("_METRICS_PORT"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        values: dict[str, list[float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values.setdefault(sample.name, []).append(sample.value)
        return values

    def rows(self, sql: str, **parameters: str) -> list[Row]:
        """The rows that a query gives; `{name:String}` in it stands for a parameter."""
        query = {"database": "telemetry", "default_format": "JSONEachRow"}
        query |= {f"param_{name}": text for name, text in parameters.items()}
        answer = self._ask(f"/?{urllib.parse.urlencode(query)}", sql.encode())
        return [json.loads(line) for line in answer.splitlines()]

    def wait_for_rows(self, count: int, sql: str, **parameters: str) -> list[Row]:
        """The rows of a query as soon as there are *count* of them or more."""
        rows: list[Row] = []

        def arrived() -> bool:
            rows[:] = self.rows(sql, **parameters)
            return len(rows) >= count

        try:
            wait_for(f"{count} rows of {sql}", arrived, STORED_SECONDS_MAX)
        except AssertionError as error:
            outputs = "\n".join(self.output_of(name) for name in self._processes)
            raise AssertionError(f"{error}: {len(rows)} came\n{outputs}") from None
        return rows

    def _add_gateway(self, name: str, data_dir: Path) -> None:
        grpc, http, metrics = free_ports(3)
        self.grpc_ports.append(grpc)
        self.http_ports.append(http)
        self.own_settings[name] = {
            "INGEST_GRPC_PORT": str(grpc),
            "INGEST_HTTP_PORT": str(http),
            "INGEST_METRICS_PORT": str(metrics),
            **_data_dir(name, "ingest", data_dir),
        }
        self._ready[name] = lambda: accepts_connections(grpc) and accepts_connections(http)

    def _add_writer(self, name: str, data_dir: Path) -> None:
        (metrics,) = free_ports(1)
        self.own_settings[name] = {
            "WRITER_METRICS_PORT": str(metrics),
            **_data_dir(name, "writer", data_dir),
        }
        self._ready[name] = lambda: accepts_connections(metrics)

    def command(self, *arguments: str) -> str:
        """Runs a command of the product to its end; what it printed."""
        done = self.run(*arguments)
        if done.returncode:
            raise AssertionError(f"{arguments} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def run(
        self, *arguments: str, settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of the product to its end, however that is."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env={**_plain_environment(), **self.settings, **(settings or {})},
            capture_output=True,
            text=True,
            timeout=START_SECONDS_MAX,
            check=False,
        )

    def write_directory(self, state: DirectoryState) -> None:
        """Gives every gateway these tenants and keys; before they start."""
        save_directory(Path(self.settings["TELEMETRYFLOW_DATA_DIR"]), state)
        for name in self.names:
            if name.startswith("ingest-"):
                save_directory(self._data_dir / name, state)

    def _clickhouse_answers(self) -> bool:
        try:
            return self._ask("/?query=SELECT%201", None) == b"1\n"
        except OSError:
            return False

    def _ask(self, path: str, body: bytes | None) -> bytes:
        url = f"http://127.0.0.1:{self._clickhouse_port}{path}"
        try:
            with urllib.request.urlopen(url, data=body, timeout=20) as answer:
                content: bytes = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path}: {error.read()[:1_000]!r}") from None
        return content


def _numbered(name: str, count: int) -> list[str]:
    return [name, *(f"{name}-{number}" for number in range(2, count + 1))]


def _data_dir(name: str, first: str, data_dir: Path) -> dict[str, str]:
    """A folder of its own for all but the first of a kind, as on a machine of its own."""
    return {} if name == first else {"TELEMETRYFLOW_DATA_DIR": str(data_dir / name)}


def _plain_environment() -> dict[str, str]:
    """The environment without settings of the person who runs the tests."""
    names = ("PATH", "PYTHONPATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in names if name in os.environ}


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.send_signal(signal.SIGCONT)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS_MAX)
