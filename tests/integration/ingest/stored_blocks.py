"""Real blocks, from real requests through the real codec, and a real engine to store them in."""

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.codec import Encoder
from ingest.compression import compression
from ingest.log import Headers
from ingest.records import RecordInfo, RequestRows, TenantRows, to_headers

RETENTION_DAYS: Final = 30
NewRecord = tuple[bytes, Headers]


def logs_request(bodies: Sequence[str], *, age_seconds: float = 0) -> bytes:
    """An export request with one log record for each of *bodies*."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = "shop"
    records = resource.scope_logs.add().log_records
    now_ns = time.time_ns() - int(age_seconds * 1e9)
    for body in bodies:
        one = records.add(time_unix_nano=now_ns, severity_number=9)
        one.body.string_value = body
        one.attributes.add(key="shop.body").value.string_value = body
    return request.SerializeToString()


def spans_request(count: int) -> bytes:
    """An export request with *count* spans of one trace."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    start = time.time_ns()
    for number in range(count):
        span = spans.add(
            trace_id=bytes(range(1, 17)),
            span_id=(number + 1).to_bytes(8, "big"),
            name=f"GET /{number % 3}",
            start_time_unix_nano=start,
            end_time_unix_nano=start + 1_000,
        )
        span.events.add(name="seen", time_unix_nano=start)
        span.attributes.add(key="k").value.int_value = number
    return request.SerializeToString()


def points_request(count: int) -> bytes:
    """An export request with *count* points of a gauge and of a histogram each."""
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    gauge, histogram = metrics.add(name="load"), metrics.add(name="latency")
    for number in range(count):
        now = time.time_ns() + number
        gauge.gauge.data_points.add(as_double=number, time_unix_nano=now)
        histogram.histogram.data_points.add(
            count=2, sum=3, bucket_counts=[1, 1], explicit_bounds=[2], time_unix_nano=now
        )
    return request.SerializeToString()


def records_of(
    signal: str,
    body: bytes,
    *,
    tenant: str = "acme",
    encoding: str = "zstd",
    request_id: bytes | None = None,
    received_ns: int | None = None,
) -> list[NewRecord]:
    """What a gateway would append for one request: a record for each block."""
    return records_of_requests(
        signal,
        [(tenant, request_id or secrets.token_bytes(16), body)],
        encoding=encoding,
        received_ns=received_ns,
    )


def records_of_requests(
    signal: str,
    requests: Sequence[tuple[str, bytes, bytes] | tuple[str, bytes, bytes, str]],
    *,
    encoding: str = "zstd",
    received_ns: int | None = None,
) -> list[NewRecord]:
    """The records of requests (tenant, id, body and maybe key) that share their blocks."""
    encoder = Encoder(signal, retention_days=RETENTION_DAYS)
    told: dict[str, list[RequestRows]] = {}
    for tenant, request_id, body, *keys in requests:
        size = len(body)
        for span in encoder.append(
            body, tenant=tenant, received_ns=received_ns or time.time_ns()
        ).spans:
            told.setdefault(span.table, []).append(
                RequestRows(
                    *(request_id, tenant, span.part, span.first_row, span.rows),
                    *("".join(keys), size),
                )
            )
            size = 0
    records = []
    for block in encoder.close():
        tenants = Counter[tuple[str, str]]()
        for one in told[block.table]:
            tenants[one.tenant, one.key] += one.rows
        info = RecordInfo(
            table=block.table,
            rows=block.rows,
            retention_days=RETENTION_DAYS,
            time_min_ns=block.time_min_ns,
            time_max_ns=block.time_max_ns,
            encoding=encoding,
            tenants=tuple(TenantRows(name, rows, key) for (name, key), rows in tenants.items()),
            requests=tuple(told[block.table]),
        )
        records.append((compression(encoding).frame(block.native), to_headers(info)))
    return records
