"""The embedded ClickHouse server as a process of its own, that tests may talk to and kill."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.ports import free_port

ROOT: Final = Path(__file__).parents[3]
START_SECONDS_MAX: Final = 30
STOP_SECONDS_MAX: Final = 40
ANSWER_SECONDS_MAX: Final = 30
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def code(self) -> int:
        """ClickHouse's exception code, 0 when there is none."""
        return int(self.headers.get("X-ClickHouse-Exception-Code", "0"))


class EmbeddedServer:
    """A context manager: the process ends with the block, whatever happens inside."""

    def __init__(
        self, data: Path, *, password: str = "", host: str = "127.0.0.1", drain_seconds: float = 30
    ) -> None:
        self.data = data
        self.port = free_port()
        self.password = password
        # What the process writes; a pipe would fill and hold it up.
        self.output = data.parent.with_name(f"{data.parent.name}-output.txt")
        self._host = host
        self._drain_seconds = drain_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """Id of the running process."""
        assert self._process is not None
        return self._process.pid

    def spawn(self) -> subprocess.Popen[bytes]:
        """A process on this folder and port, not waited for."""
        arguments = (
            *("--data", str(self.data), "--host", self._host, "--port", str(self.port)),
            *("--drain-seconds", str(self._drain_seconds)),
        )
        with self.output.open("ab") as output:
            return subprocess.Popen(
                (sys.executable, "-m", "shared.clickhouse.embedded", *arguments),
                cwd=ROOT,
                env={**os.environ, "CLICKHOUSE_PASSWORD": self.password},
                stderr=output,
            )

    def start(self) -> float:
        """Start and wait until it answers; returns the seconds that this took."""
        begun = time.monotonic()
        self._process = self.spawn()
        while not self._answers():
            assert self._process.poll() is None, self.output.read_text()
            assert time.monotonic() < begun + START_SECONDS_MAX, "the server does not answer"
            time.sleep(POLL_SECONDS)
        return time.monotonic() - begun

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def ask(
        self,
        sql: str = "",
        parameters: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
        body: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        path: str = "/",
    ) -> Reply:
        """One request: *sql* goes into the body, behind which nothing else may come, unless
        there is a *body*: then it goes into the parameter `query`."""
        target_parameters = dict(parameters or {})
        if body or method != "POST":
            target_parameters |= {"query": sql} if sql else {}
        else:
            body = sql.encode()
        connection = self.connection()
        try:
            target = f"{path}?{urllib.parse.urlencode(target_parameters)}"
            connection.request(
                method, target, body=body if method == "POST" else None, headers=self._with(headers)
            )
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def run(self, sql: str, parameters: Mapping[str, str] | None = None) -> str:
        """The text of a result; an error fails the test."""
        reply = self.ask(sql, parameters)
        assert reply.status == 200, reply.text
        return reply.text.strip()

    def rows(
        self, sql: str, parameters: Mapping[str, str] | None = None
    ) -> list[dict[str, object]]:
        """The rows of a result by column name."""
        lines = self.run(f"{sql} FORMAT JSONEachRow", parameters).splitlines()
        return [json.loads(line) for line in lines]

    def connection(self) -> http.client.HTTPConnection:
        """A connection that is not open yet."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS_MAX)

    def rss_bytes(self) -> int:
        """Memory that the process has in RAM."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _with(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        key = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": self.password}
        return {**(key if self.password else {}), **(headers or {})}

    def _answers(self) -> bool:
        try:
            return self.ask(method="GET", path="/ping").body == b"Ok.\n"
        except OSError:
            return False


def wait_until(what: str, holds: Callable[[], bool], *, seconds_max: float = 15) -> None:
    """Returns as soon as *holds* does; fails the test when it does not in time."""
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds_max} s"
        time.sleep(POLL_SECONDS)
