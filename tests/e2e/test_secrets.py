"""Secrets that went through the control plane stand nowhere but where they belong."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pyotp
import pytest

from tests.e2e.control_plane import PASSWORD, ControlPlane
from tests.e2e.processes import wait_for
from tests.http_sink import HttpSink, http_sink
from tests.postgres.server import PostgresServer

SINK_SECONDS_MAX = 30


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """Takes whatever telemetry the processes send."""
    with http_sink() as sink:
        yield sink


@pytest.fixture
def plane(sink: HttpSink) -> Iterator[ControlPlane]:
    """All that it could log, logged; all that it could trace, traced."""
    folder = Path(tempfile.mkdtemp(prefix="telemetryflow-secrets-"))
    plane = ControlPlane(folder)
    plane.environment |= {
        "LOG_LEVEL": "verbose",
        "OTEL_ENABLED": "true",
        "OTEL_TRACES_SAMPLER_ARG": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=canary-of-the-exporter",
    }
    try:
        plane.postgres.start()
        plane.command("migrate", "--store", "postgres")
        yield plane
    finally:
        plane.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_S65_secrets_are_in_no_log_trace_table_or_error(
    plane: ControlPlane, sink: HttpSink
) -> None:
    email, first_password = plane.command("init").split()[-2:]
    plane.start("api")
    plane.start("worker")

    secrets, errors = use_everything(plane, email, first_password)
    plane.close_processes()
    wait_for("traces", lambda: len(sink.posts) > 2, SINK_SECONDS_MAX)

    places = {
        **{path.name: path.read_bytes() for path in (plane.folder / "logs").iterdir()},
        "telemetry": b"\n".join(post.body for post in sink.posts),
        "errors": str(errors).encode(),
        **asyncio.run(tables_of(plane.postgres)),
    }
    assert {"api.jsonl", "worker.jsonl", "telemetry", "outbox"} <= places.keys()
    assert b"POST /api/v2/auth/login" in places["telemetry"]
    assert b"accept-invitation" in places["api.jsonl"]
    assert len(secrets) > 20
    assert len(errors) == 4
    found = [
        (name, secret)
        for name, held in places.items()
        for secret in secrets
        if secret.encode() in held
    ]
    assert found == []


def use_everything(
    plane: ControlPlane, email: str, first_password: str
) -> tuple[set[str], list[Any]]:
    """Sign in rightly and wrongly, and so on: the secrets that were sent, and errors that came."""
    errors: list[Any] = []
    secrets = {
        *(first_password, PASSWORD, "canary-of-the-exporter", "tfi_canary-of-a-wrong-token"),
        *("Wrong-canary-1-password", "Canary-2-as-a-field", "canary-3-in-broken-json"),
    }

    def ask(path: str, body: Any) -> Any:
        status, answer, _ = plane.ask("POST", path, body)
        if status >= 400:
            errors.append(answer)
        return answer

    ask("/auth/login", {"email": email, "password": "Wrong-canary-1-password"})
    ask("/auth/login", {"email": email, "password": 1, "x": "Canary-2-as-a-field"})
    ask("/auth/login", '{"password": "canary-3-in-broken-json')
    pair = ask("/auth/login", {"email": email, "password": first_password})
    plane.token = pair["accessToken"]
    change = {"currentPassword": first_password, "newPassword": PASSWORD}
    ask("/auth/change-password", change)
    again = ask("/auth/login", {"email": email, "password": PASSWORD})
    refreshed = ask("/auth/refresh", {"refreshToken": again["refreshToken"]})
    plane.token = refreshed["accessToken"]
    setup = ask("/auth/mfa/setup", {"password": PASSWORD})
    codes = ask("/auth/mfa/verify", {"code": pyotp.TOTP(setup["secret"]).now()})
    ask("/invitations", {"email": "ada@example.com", "firstName": "Ada", "lastName": "L"})
    ask("/auth/forgot-password", {"email": email})
    wait_for("mails", lambda: len(mail_tokens(plane.folder)) >= 2, 60)
    ask("/auth/accept-invitation", {"token": "tfi_canary-of-a-wrong-token"})
    for one in (pair, again, refreshed):
        secrets |= {one["accessToken"], one["refreshToken"]}
    return secrets | {setup["secret"], *codes["recoveryCodes"], *mail_tokens(plane.folder)}, errors


def mail_tokens(folder: Path) -> set[str]:
    """Those of links in mails: the one place where they stand in clear."""
    texts = [path.read_text() for path in (folder / "mails").glob("*.eml")]
    joined = "\n".join(texts).replace("=\n", "").replace("=3D", "=")
    return set(re.findall(r"#token=([A-Za-z0-9_-]{20,})", joined))


async def tables_of(server: PostgresServer) -> dict[str, bytes]:
    """Every row of every table as text."""
    connection = await asyncpg.connect(**server.address.at("telemetryflow").options())
    try:
        names = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
        return {
            name: "\n".join(
                row["text"]
                for row in await connection.fetch(f'SELECT t::text AS text FROM "{name}" AS t')
            ).encode()
            for (name,) in names
        }
    finally:
        await connection.close()
