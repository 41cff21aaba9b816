"""Logs arrive at Loki, OpenSearch and Fluent Bit; a target that is away hurts nobody."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.http_sink import HttpSink, http_sink

ROOT = Path(__file__).parents[4]
PROGRAM = """
import logging, sys
from shared.logger.set_up import set_up_logging
from shared.settings import Settings

set_up_logging(Settings.from_env(), "api")
for number in range(int(sys.argv[1])):
    logging.getLogger("product").info("hello with password=secret1")
"""


@pytest.fixture
def target() -> Iterator[HttpSink]:
    with http_sink(b'{"errors": false, "items": []}') as sink:
        yield sink


def run(folder: Path, *, lines: int = 1, **settings: str) -> float:
    """The seconds that a process took which logs the same line several times."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(lines)],
        cwd=ROOT,
        env={**os.environ, "TELEMETRYFLOW_DATA_DIR": str(folder), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "hello with password=********" in (folder / "logs" / "api.jsonl").read_text()
    return time.monotonic() - begun


def test_Loki_gets_lines_by_OTLP(target: HttpSink, tmp_path: Path) -> None:
    run(
        tmp_path,
        LOG_LOKI_URL=f"{target.url}/otlp",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20another-receivers-key",
        OTEL_EXPORTER_OTLP_LOGS_HEADERS="x-api-key=another-receivers-key",
    )

    request = ExportLogsServiceRequest.FromString(b"".join(target.bodies("/otlp/v1/logs")))
    bodies = [
        one.body.string_value
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for one in scope.log_records
    ]
    assert "hello with password=********" in bodies
    assert "another-receivers-key" not in "".join(str(post.headers) for post in target.posts)


def test_OpenSearch_gets_documents_in_an_index_a_day_many_in_a_request(
    target: HttpSink, tmp_path: Path
) -> None:
    run(tmp_path, lines=1_200, LOG_OPENSEARCH_URL=target.url)

    lines = [json.loads(line) for post in target.posts for line in post.body.splitlines()]
    assert {post.path for post in target.posts} == {"/_bulk"}
    assert len(target.posts) <= 10
    assert [line["message"] for line in lines[1::2]] == ["hello with password=********"] * 1_200
    assert {tuple(line) for line in lines[::2]} == {("index",)}
    assert lines[0]["index"]["_index"].startswith(f"telemetryflow-logs-{time.gmtime().tm_year}.")


def test_Fluent_Bit_gets_records_of_the_forward_protocol(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        received: list[bytes] = []

        def take() -> None:
            client, _ = server.accept()
            with client:
                while piece := client.recv(65_536):
                    received.append(piece)

        thread = threading.Thread(target=take)
        thread.start()
        port = server.getsockname()[1]
        run(tmp_path, LOG_FLUENTBIT_HOST="127.0.0.1", LOG_FLUENTBIT_PORT=str(port))
        thread.join(10)

    unpacker = msgpack.Unpacker()
    unpacker.feed(b"".join(received))
    messages = [record["message"] for _tag, _time, record in unpacker]
    assert "hello with password=********" in messages


def test_targets_that_are_away_hurt_nobody(tmp_path: Path) -> None:
    seconds = run(
        tmp_path,
        LOG_LOKI_URL="http://127.0.0.1:9/otlp",
        LOG_OPENSEARCH_URL="http://127.0.0.1:9",
        LOG_FLUENTBIT_HOST="127.0.0.1",
        LOG_FLUENTBIT_PORT="9",
    )

    assert seconds < 30


def test_targets_that_take_and_never_answer_do_not_keep_the_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        seconds = run(
            tmp_path,
            lines=5_000,
            LOG_LOKI_URL=f"http://127.0.0.1:{port}/otlp",
            LOG_OPENSEARCH_URL=f"http://127.0.0.1:{port}",
            LOG_FLUENTBIT_HOST="127.0.0.1",
            LOG_FLUENTBIT_PORT=port,
        )

    # One by one they would take minutes: the bound is far from both.
    assert seconds < 30
