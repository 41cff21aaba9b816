"""An OTLP endpoint under test, and what arrived behind it."""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ingest.signals import Signal

# The pytest plugin by which `python -m tests.contract` names an endpoint that is not ours.
FOREIGN_PLUGIN: Final = "foreign-endpoint"
HTTP: Final = ("http-protobuf", "http-json")
ARRIVAL_SECONDS_MAX: Final = 15.0
POLL_SECONDS: Final = 0.1
# Of the columns and conventions of the OpenTelemetry ClickHouse exporter.
_METRIC_TABLES: Final = ("gauge", "sum", "histogram", "summary")
_SQL: Final = {
    Signal.TRACES: """
        SELECT SpanName AS name, TraceId AS traceId, SpanId AS spanId, SpanKind AS kind,
            SpanAttributes AS attributes, ResourceAttributes AS resource, StatusCode AS status
        FROM otel_traces WHERE ServiceName = {service:String}""",
    Signal.LOGS: """
        SELECT Body AS name, TraceId AS traceId, SpanId AS spanId, SeverityNumber AS severity,
            LogAttributes AS attributes, ResourceAttributes AS resource
        FROM otel_logs WHERE ServiceName = {service:String}""",
    Signal.METRICS: " UNION ALL ".join(
        f"""SELECT MetricName AS name, Attributes AS attributes, ResourceAttributes AS resource
        FROM otel_metrics_{table} WHERE ServiceName = {{service:String}}"""
        for table in _METRIC_TABLES
    ),
}

Item = dict[str, Any]


class Arrivals(Protocol):
    """What arrived behind an endpoint."""

    def items(self, signal: Signal, service: str, count: int) -> list[Item]:
        """The items of *service*, of which *count* are expected, as `name`, `attributes`, …"""


@dataclass(frozen=True)
class Endpoint:
    """Where requests go. Without *arrivals* only answers are judged.

    *limits_bytes* are the largest bodies that it takes, by way to send, where that is known.
    """

    http: str
    grpc: Mapping[str, str]
    credentials: Mapping[str, str] = field(default_factory=dict)
    arrivals: Arrivals | None = None
    limits_bytes: Mapping[str, int] = field(default_factory=dict)
    is_ours: bool = False

    def check_arrived(self, signal: Signal, service: str, *expected: str | Item) -> None:
        """That exactly these items arrived: by name, or with at least these fields."""
        if self.arrivals is None:
            return
        wanted = [{"name": one} if isinstance(one, str) else one for one in expected]
        found = self.arrivals.items(signal, service, len(wanted))
        assert len(found) == len(wanted), (found, wanted)
        by_name = sorted(wanted, key=lambda one: str(one["name"]))
        for item, want in zip(
            sorted(found, key=lambda one: str(one["name"])), by_name, strict=True
        ):
            assert {key: item[key] for key in want} == want


class ClickHouseArrivals:
    """Arrivals in a ClickHouse with the exporter's tables, or views that look like them."""

    def __init__(self, url: str, database: str) -> None:
        self._url = f"{url.rstrip('/')}/?{urllib.parse.urlencode({'database': database})}"

    def items(self, signal: Signal, service: str, count: int) -> list[Item]:
        """The items as soon as there are *count* of them; for none, what came within a while."""
        deadline = time.monotonic() + (ARRIVAL_SECONDS_MAX if count else POLL_SECONDS * 10)
        found = self._rows(signal, service)
        while (len(found) < count or not count) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            found = self._rows(signal, service)
        return found

    def _rows(self, signal: Signal, service: str) -> list[Item]:
        query = urllib.parse.urlencode({"param_service": service})
        sql = f"SELECT * FROM ({_SQL[signal]}) FORMAT JSONEachRow"
        with urllib.request.urlopen(f"{self._url}&{query}", sql.encode(), timeout=20) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]


def item_of_row(signal: Signal, row: Mapping[str, Any]) -> Item:
    """A row of our own tables in the words of `items`."""
    item: Item = {"resource": row["ResourceAttributes"]}
    if signal is Signal.METRICS:
        return item | {"name": row["MetricName"], "attributes": row["Attributes"]}
    item |= {"traceId": row["TraceId"].hex(), "spanId": row["SpanId"].hex()}
    if signal is Signal.LOGS:
        return item | {
            "name": row["Body"],
            "severity": row["SeverityNumber"],
            "attributes": row["LogAttributes"],
        }
    return item | {
        "name": row["SpanName"],
        "kind": row["SpanKind"],
        "status": row["StatusCode"],
        "attributes": row["SpanAttributes"],
    }


def items_of(signal: Signal, rows: Sequence[Mapping[str, Any]], service: str) -> list[Item]:
    """The items of *service* among *rows*."""
    return [item_of_row(signal, row) for row in rows if row["ServiceName"] == service]
