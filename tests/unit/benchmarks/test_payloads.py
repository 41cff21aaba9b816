"""The requests that benchmarks and load are made of."""

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.payloads import NOW_NS, SIGNALS, requests
from ingest.codec import Encoder
from ingest.codec.tables import TABLES_OF_SIGNAL

MESSAGE_OF: dict[str, type[Message]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}


@pytest.mark.parametrize("items", [1, 7, 500])
@pytest.mark.parametrize("signal", SIGNALS)
def test_requests_are_valid_distinct_and_the_same_every_time(signal: str, items: int) -> None:
    bodies = requests(signal, items=items, count=10)
    assert bodies == requests(signal, items=items, count=10)
    assert len(set(bodies)) == 10
    encoder = Encoder(signal, retention_days=1)
    for body in bodies:
        # Parsing and writing again changes nothing: no mark has hit anything but a field's value.
        assert MESSAGE_OF[signal].FromString(body).SerializeToString() == body
        appended = encoder.append(body, tenant="acme", received_ns=NOW_NS)
        assert (appended.accepted, appended.rejected, appended.warnings) == (items, {}, {})


def test_times_lie_just_before_the_given_one() -> None:
    encoder = Encoder("traces", retention_days=1)
    now_ns = NOW_NS + 86_400_000_000_000
    (body,) = requests("traces", items=500, count=1, now_ns=now_ns)
    encoder.append(body, tenant="acme", received_ns=now_ns)
    (block,) = encoder.close()
    assert now_ns - 5_000_000_000 <= block.time_min_ns <= block.time_max_ns <= now_ns


def test_500_points_are_of_all_kinds_of_metric() -> None:
    encoder = Encoder("metrics", retention_days=1)
    (body,) = requests("metrics", items=500, count=1)
    encoder.append(body, tenant="acme", received_ns=NOW_NS)
    assert tuple(block.table for block in encoder.close()) == TABLES_OF_SIGNAL["metrics"]


def test_a_number_of_items_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="0 items"):
        requests("logs", items=0, count=1)
