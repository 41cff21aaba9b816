"""Traces and metrics of a process arrive at an OTLP receiver, as its user sees them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.http_sink import HttpSink, http_sink

USER = "11111111-1111-4111-8111-111111111111"
TENANT = "22222222-2222-4222-8222-222222222222"
ROOT = Path(__file__).parents[4]
PROGRAM = """
import asyncio, logging, sys
from uuid import UUID
from aiohttp import ClientSession, web
from prometheus_client import Counter, Gauge, Histogram
from shared.caller import Caller
from shared.http.endpoint import CALLER
from shared.otel.http_middleware import observe
from shared.otel.set_up import set_up_telemetry
from shared.settings import Settings

async def main():
    app = web.Application(middlewares=[observe])
    async def hello(request):
        request[CALLER] = Caller(user_id=UUID(sys.argv[1]), tenant_id=UUID(sys.argv[2]))
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

logging.basicConfig(level=logging.INFO)
Counter("things_done", "Things", ["kind"]).labels("a").inc(3)
Gauge("things_open", "Things").set(5)
seconds = Histogram("things_seconds", "Things", buckets=(0.1, 1.0))
for value in (0.05, 0.5, 0.5, 6.0):
    seconds.observe(value)
end = set_up_telemetry(Settings.from_env(), "api")
asyncio.run(main())
end()
"""


@pytest.fixture
def receiver() -> Iterator[HttpSink]:
    with http_sink() as sink:
        yield sink


def run(**settings: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, USER, TENANT],
        cwd=ROOT,
        env={**os.environ, "OTEL_TRACES_SAMPLER_ARG": "1", **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_request_is_a_server_span_below_its_callers(receiver: HttpSink) -> None:
    run(
        OTEL_ENABLED="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )

    request = ExportTraceServiceRequest.FromString(receiver.bodies("/v1/traces")[0])
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
    assert attributes["user.id"].string_value == USER
    assert attributes["telemetryflow.tenant.id"].string_value == TENANT


def test_metrics_are_those_of_the_conventions_and_those_of_prometheus(receiver: HttpSink) -> None:
    run(
        OTEL_ENABLED="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )

    request = ExportMetricsServiceRequest.FromString(receiver.bodies("/v1/metrics")[0])
    (resource_metrics,) = request.resource_metrics
    found = {one.name: one for scope in resource_metrics.scope_metrics for one in scope.metrics}
    duration = found["http.server.request.duration"].histogram.data_points[0]
    assert list(duration.explicit_bounds)[:2] == [0.005, 0.01]
    assert found["process.uptime"].gauge.data_points[0].as_double > 0
    counter = found["things_done"].sum
    assert (counter.is_monotonic, counter.aggregation_temporality) == (True, 2)
    assert [
        (point.attributes[0].value.string_value, point.as_double) for point in counter.data_points
    ] == [("a", 3.0)]
    histogram = found["things_seconds"].histogram.data_points[0]
    assert list(histogram.explicit_bounds) == [0.1, 1.0]
    assert list(histogram.bucket_counts) == [1, 2, 1]
    assert (histogram.count, histogram.sum, histogram.HasField("min")) == (4, 7.05, False)
    assert found["things_open"].gauge.data_points[0].as_double == 5


def test_lines_carry_their_trace_and_their_person(receiver: HttpSink) -> None:
    run(
        OTEL_ENABLED="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_EXPORTER_OTLP_HEADERS="x-api-key=a%20key",
    )

    request = ExportLogsServiceRequest.FromString(receiver.bodies("/v1/logs")[0])
    records = [one for scope in request.resource_logs[0].scope_logs for one in scope.log_records]
    (line,) = [one for one in records if one.body.string_value.startswith("GET /things")]
    attributes = {one.key: one.value for one in line.attributes}
    assert line.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert attributes["user.id"].string_value == USER
    assert attributes["http.response.status_code"].int_value == 200
    assert line.severity_text == "INFO"
    assert {post.headers["x-api-key"] for post in receiver.posts} == {"a key"}


def test_a_target_that_is_away_hurts_nobody() -> None:
    run(OTEL_ENABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")


def test_switched_off_nothing_is_sent(receiver: HttpSink) -> None:
    run(OTEL_ENABLED="false", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)

    assert receiver.posts == []
