"""Sends known telemetry through the OpenTelemetry SDK for Python and prints what it sent.

Arguments: protocol (grpc, http or json) and service name. Endpoint and compression come from the
environment, as in any program that uses the SDK.
"""

import importlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context

ITEMS: Final[Mapping[str, Any]] = json.loads(Path(__file__).with_name("items.json").read_text())
PACKAGES: Final = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "http": "opentelemetry.exporter.otlp.proto.http",
    "json": "opentelemetry.exporter.otlp.json.http",
}
TRACES: Final = 3
LOGS: Final = 5
NOW_NS: Final = time.time_ns()


def exporter_of(protocol: str, module: str, name: str) -> Any:
    """An exporter of that protocol, configured by the environment."""
    return getattr(importlib.import_module(f"{PACKAGES[protocol]}.{module}"), name)()


def described(span: ReadableSpan) -> dict[str, Any]:
    """A span as the tests expect to find it."""
    context = span.get_span_context()
    assert context is not None
    assert span.start_time is not None
    assert span.end_time is not None
    return {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "parentSpanId": f"{span.parent.span_id:016x}" if span.parent else "0" * 16,
        "name": span.name,
        "kind": span.kind.name.capitalize(),
        "startNs": str(span.start_time),
        "durationNs": str(span.end_time - span.start_time),
    }


def send_traces(protocol: str, resource: Resource) -> list[dict[str, Any]]:
    """Traces of a server span with an event and a failed client span that links to it."""
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = exporter_of(protocol, "trace_exporter", "OTLPSpanExporter")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("sdk.check", "0.9", schema_url="https://example.org/1.0")
    sent = []
    for number in range(TRACES):
        server = tracer.start_span(
            f"serve {number}", kind=SpanKind.SERVER, attributes=ITEMS["attributes"]
        )
        server.add_event("halfway", {"step": number}, timestamp=NOW_NS + number)
        client = tracer.start_span(
            "call",
            context=set_span_in_context(server),
            kind=SpanKind.CLIENT,
            links=[Link(server.get_span_context(), {"why": "follows"})],
        )
        client.set_status(Status(StatusCode.ERROR, "no answer"))
        client.end()
        server.end()
        for span in (client, server):
            assert isinstance(span, ReadableSpan)
            sent.append(described(span))
    assert provider.force_flush()
    provider.shutdown()
    return sent


def send_logs(protocol: str, resource: Resource) -> list[dict[str, Any]]:
    """Log records, the first without a body."""
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    exporter = exporter_of(protocol, "_log_exporter", "OTLPLogExporter")
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("sdk.check", "0.9")
    sent = []
    for number in range(LOGS):
        time_ns = NOW_NS + 1_000_001 * number
        body = f"zeile {number}: 世界" if number else None
        logger.emit(
            timestamp=time_ns,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=body,
            attributes=ITEMS["attributes"],
            event_name="checked",
        )
        sent.append({"timeNs": str(time_ns), "body": body or "", "severity": "WARN", "number": 13})
    assert provider.force_flush()
    provider.shutdown()
    return sent


def send_metrics(protocol: str, resource: Resource) -> None:
    """One metric of each kind that an SDK makes."""
    exporter = exporter_of(protocol, "metric_exporter", "OTLPMetricExporter")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    exponential = View(
        instrument_name="check.size", aggregation=ExponentialBucketHistogramAggregation()
    )
    provider = MeterProvider([reader], resource, shutdown_on_exit=False, views=[exponential])
    meter = provider.get_meter("sdk.check", "0.9")
    meter.create_counter("check.requests", "1", "how many").add(5, ITEMS["attributes"])
    meter.create_up_down_counter("check.pending").add(-2, ITEMS["attributes"])

    def temperature(_options: CallbackOptions) -> list[Observation]:
        return [Observation(36.6, ITEMS["attributes"])]

    meter.create_observable_gauge("check.temperature", [temperature])
    latency = meter.create_histogram("check.latency", "ms")
    size = meter.create_histogram("check.size", "By")
    for value in (1, 20, 300):
        latency.record(value, ITEMS["attributes"])
        size.record(value, ITEMS["attributes"])
    provider.shutdown()  # exports once, at the end


def main(protocol: str, service: str) -> None:
    """Sends all three signals and prints what it sent."""
    resource = Resource({**ITEMS["resource"], "service.name": service})
    spans = send_traces(protocol, resource)
    logs = send_logs(protocol, resource)
    send_metrics(protocol, resource)
    print(json.dumps({"spans": spans, "logs": logs}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
