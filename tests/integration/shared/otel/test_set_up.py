"""Traces and metrics of a process arrive at an OTLP receiver, as its user sees them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ROOT = Path(__file__).parents[4]
PROGRAM = """
import asyncio, json
from aiohttp import ClientSession, web
from shared.otel.http_middleware import observe
from shared.otel.set_up import set_up_telemetry
from shared.settings import Settings

async def main():
    app = web.Application(middlewares=[observe])
    async def hello(request):
        return web.Response(text="hello")
    app.router.add_get("/things/{id}", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/things/7"
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with ClientSession() as session:
        async with session.get(url, headers={"traceparent": parent}) as answer:
            assert answer.status == 200
    await runner.cleanup()

end = set_up_telemetry(Settings.from_env(), "api")
asyncio.run(main())
end()
"""


class Receiver(ThreadingHTTPServer):
    """Keeps the bodies of what is posted, by path."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {}
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.setdefault(self.path, []).append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(**settings: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "OTEL_TRACES_SAMPLER_ARG": "1", **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_request_is_a_server_span_below_its_callers(receiver: Receiver) -> None:
    run(
        OTEL_ENABLED="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{receiver.server_address[1]}",
    )

    request = ExportTraceServiceRequest.FromString(receiver.bodies["/v1/traces"][0])
    (resource_spans,) = request.resource_spans
    (span,) = resource_spans.scope_spans[0].spans
    names = {one.key: one.value.string_value for one in resource_spans.resource.attributes}
    attributes = {one.key: one.value for one in span.attributes}
    assert names["service.name"] == "telemetryflow-backend-api"
    assert (span.name, span.kind) == ("GET /things/{id}", span.SPAN_KIND_SERVER)
    assert span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent_span_id.hex() == "b7ad6b7169203331"
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["url.path"].string_value == "/things/7"
    metrics = ExportMetricsServiceRequest.FromString(receiver.bodies["/v1/metrics"][0])
    found = [one.name for one in metrics.resource_metrics[0].scope_metrics[0].metrics]
    assert found == ["http.server.request.duration"]


def test_a_target_that_is_away_hurts_nobody() -> None:
    run(OTEL_ENABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")


def test_switched_off_nothing_is_sent(receiver: Receiver) -> None:
    port = receiver.server_address[1]

    run(OTEL_ENABLED="false", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")

    assert json.dumps(sorted(receiver.bodies)) == "[]"
