"""PostgreSQL, the API and the worker as processes of one folder, that tests can kill."""

import json
import subprocess
import urllib.error
import urllib.request
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, Final

from tests.e2e.processes import COMMAND, ROOT, wait_for
from tests.ports import free_ports
from tests.postgres.server import PostgresServer

READY_SECONDS_MAX: Final = 30
PASSWORD: Final = "Correct-Horse-7-battery"


class ControlPlane:
    """PostgreSQL, the API and the worker of one folder; nothing that it started outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = PostgresServer(folder)
        port, metrics, worker, self.directory_port = free_ports(4)
        self.url = f"http://127.0.0.1:{port}"
        self._metrics = {"api": metrics, "worker": worker}
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "TELEMETRYFLOW_ENV": "test",
            "TELEMETRYFLOW_DATA_DIR": str(folder),
            "DB_PORT": str(self.postgres.port),
            "PORT": str(port),
            "DIRECTORY_PORT": str(self.directory_port),
            "API_METRICS_PORT": str(metrics),
            "WORKER_METRICS_PORT": str(worker),
            "THROTTLE_AUTH_LIMIT": "100000",
            "PASSWORD_HASH_MEMORY_KIB": "8192",
            # Neither is there: the product works without.
            "NATS_URL": "nats://127.0.0.1:9",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": "9",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = ""

    def begin(self) -> None:
        """Start everything, and sign in as the first administrator, who has a new password."""
        self.postgres.start()
        self.command("migrate", "--store", "postgres")
        email, password = self.command("init").split()[-2:]
        self.start("api")
        self.start("worker")
        self.sign_in(email, password)
        change = {"currentPassword": password, "newPassword": PASSWORD}
        status, answer, _ = self.ask("POST", "/auth/change-password", change)
        assert status == 200, answer

    def command(self, *arguments: str) -> str:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    def start(self, name: str) -> None:
        self._processes[name] = subprocess.Popen(
            [*COMMAND, name], cwd=ROOT, env=self.environment, stderr=subprocess.DEVNULL
        )
        ready = f"http://127.0.0.1:{self._metrics[name]}/readyz"
        wait_for(f"start of {name}", lambda: self._status(ready) == 200, READY_SECONDS_MAX)

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes.pop(name).wait(10)

    def restart_what_died(self) -> None:
        """Start again what was killed."""
        if not self.postgres.is_running:
            self.postgres.start()
        for name in self._metrics.keys() - self._processes.keys():
            self.start(name)

    def close_processes(self) -> None:
        """End the API and the worker; the database stays."""
        while self._processes:
            _name, process = self._processes.popitem()
            process.terminate()
            process.wait(30)

    def close(self) -> None:
        self.close_processes()
        self.postgres.stop()

    def _status(self, url: str) -> int:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def health(self) -> int:
        return self._status(f"{self.url}/health")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
        request = urllib.request.Request(
            f"{self.url}/api/v2{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null"), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), dict(error.headers)

    def sign_in(self, email: str, password: str) -> None:
        self.token = ""
        status, answer, _ = self.ask("POST", "/auth/login", {"email": email, "password": password})
        assert status == 200, answer
        self.token = answer["accessToken"]

    def invited(self) -> list[str]:
        """Who got an invitation, once for each mail."""
        files = (self.folder / "mails").glob("*.eml")
        mails = [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
        return [mail["To"] for mail in mails if mail["Subject"].startswith("Join ")]
