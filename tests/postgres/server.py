"""The embedded PostgreSQL as a process that tests may kill and start again."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import asyncpg

from shared.postgres.address import PostgresAddress
from shared.postgres.embedded import embedded_address
from shared.settings import Settings
from tests.ports import free_port

START_SECONDS_MAX: Final = 30
STOP_SECONDS_MAX: Final = 20
POLL_SECONDS: Final = 0.02


class PostgresServer:
    """A context manager: the process ends with the block, whatever happens inside."""

    def __init__(self, data: Path, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.data = data
        self._settings = Settings(telemetryflow_data_dir=str(data), db_port=self.port)
        self._process: subprocess.Popen[bytes] | None = None
        # Whether it holds the template that databases of tests are cloned from.
        self.has_template = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def address(self) -> PostgresAddress:
        """The server's own database."""
        return embedded_address(self._settings).at("postgres")

    def start(self) -> None:
        """Start it on the same folder and port; returns when it answers."""
        environment = {
            **os.environ,
            "TELEMETRYFLOW_DATA_DIR": str(self.data),
            "DB_PORT": str(self.port),
        }
        program = "from control.cli import main; raise SystemExit(main(['postgres']))"
        self._process = subprocess.Popen([sys.executable, "-c", program], env=environment)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not asyncio.run(self._answers()):
            assert self._process.poll() is None, "PostgreSQL ended"
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(POLL_SECONDS)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not killed or stopped since."""
        return self._process is not None

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(**self.address.options(), timeout=5)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    def kill(self) -> None:
        """kill -9, as a power cut would; its children notice and end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS_MAX)
        self._process = None

    def stop(self) -> None:
        """End it in order."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        self._process.wait(STOP_SECONDS_MAX)
        self._process = None
