"""Short ways to map a piece of OTLP/JSON and look at the message that comes out."""
# ruff: noqa: UP031 - JSON is full of braces, which other ways to format would have to double

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ingest.codec.json import to_protobuf
from ingest.codec.results import Malformed
from tests.unit.ingest.codec.otlp_json import REQUEST_OF_SIGNAL

DATA = Path(__file__).parent / "data"
SIGNALS = ("traces", "logs", "metrics")
TRACE_ID = "5b8efff798038103d269b633813fc60c"
SPAN = '{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}'
LOG = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[%s]}]}]}'
POINT = '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[%s]}}]}]}]}'
HISTOGRAM = (
    '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[%s]}}]}]}]}'
)


def mapped(signal: str, text: str | bytes) -> Any:
    body = text.encode() if isinstance(text, str) else text
    return REQUEST_OF_SIGNAL[signal].FromString(to_protobuf(signal, body))


def span(text: str) -> Span:
    found = mapped("traces", SPAN % text).resource_spans[0].scope_spans[0].spans[0]
    assert isinstance(found, Span)
    return found


def log(text: str) -> LogRecord:
    found = mapped("logs", LOG % text).resource_logs[0].scope_logs[0].log_records[0]
    assert isinstance(found, LogRecord)
    return found


def value(text: str) -> AnyValue:
    return log('{"body":%s}' % text).body


def metric(text: str) -> Any:
    return mapped("metrics", text).resource_metrics[0].scope_metrics[0].metrics[0]


def refused(text: str | bytes, signal: str = "traces") -> Malformed:
    with pytest.raises(Malformed) as caught:
        to_protobuf(signal, text.encode() if isinstance(text, str) else text)
    return caught.value
