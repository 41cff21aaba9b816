"""What is rejected item by item can be looked at: from the gateway into the real engine."""

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from control.cli.rejected import printable
from control.cli.rejected import rejected as rejected_command
from ingest.codec import Encoder
from ingest.codec.results import REJECTED_TEXT_CHARACTERS_MAX, RejectedItem
from ingest.ledger.counts import At, GatewayCounts, minute_now
from ingest.ledger.rejected import KEPT_MAX, SAMPLES_MAX
from ingest.ledger.writer import LedgerWriter
from ingest.signals import LEDGER_TOPIC
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.views import views_of_all, views_of_tenant
from shared.settings import Settings
from tests.fakes import MemoryLog
from tests.integration.ingest.test_writer_clickhouse import migrated
from tests.integration.shared.embedded_server import EmbeddedServer

NOW_NS = 1_790_000_000_000_000_000
SECRET = "hunter2 hunter2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("rejected") / "data") as started:
        asyncio.run(migrated(started))
        yield started


@pytest.fixture
async def clickhouse(server: EmbeddedServer) -> AsyncIterator[ClickHouse]:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as connected:
        await connected.command("TRUNCATE TABLE telemetry.tf_rejected")
        yield connected


def spans(*trace_ids: bytes, name: str = "GET /") -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    service = resource.resource.attributes.add(key="service.name")
    service.value.string_value = "checkout"
    scope = resource.scope_spans.add()
    for trace_id in trace_ids:
        span = scope.spans.add(name=name, trace_id=trace_id, span_id=b"12345678")
        span.start_time_unix_nano = NOW_NS
        span.attributes.add(key="password").value.string_value = SECRET
    return request.SerializeToString()


def rejected(signal: str, body: bytes) -> tuple[RejectedItem, ...]:
    """What the codec tells of items that it does not take."""
    encoder = Encoder(signal, retention_days=30)
    return encoder.append(body, tenant="acme", received_ns=NOW_NS).samples


def at(signal: str, tenant: str = "acme") -> At:
    return At(minute_now(), tenant, signal)


async def stored(log: MemoryLog, counts: GatewayCounts, clickhouse: ClickHouse) -> None:
    await counts.flush()
    ledger = LedgerWriter(log, clickhouse.command, clickhouse.query, database="telemetry")
    while await ledger.step((LEDGER_TOPIC, 0), gather_seconds=0):
        pass


async def test_a_rejected_span_can_be_seen_without_its_values(
    clickhouse: ClickHouse, server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    log = MemoryLog()
    counts = GatewayCounts(log)
    body = spans(b"short", b"0123456789abcdef")
    counts.sample.keep(at("traces"), rejected("traces", body))
    await stored(log, counts, clickhouse)
    rows = await clickhouse.query(
        "SELECT TenantId, Signal, Reason, ServiceName, Name, TraceId, SpanId, TimeUnixNano, "
        "AttributeKeys FROM telemetry.tf_rejected"
    )
    assert [tuple(row) for row in rows] == [
        (
            *("acme", "traces", "invalid_trace_id", "checkout", "GET /"),
            *(b"short".hex(), b"12345678".hex(), NOW_NS, ["password"]),
        )
    ]
    settings = Settings(clickhouse_host="127.0.0.1", clickhouse_port=server.port)
    options = Namespace(tenant="acme", minutes=5)
    assert await asyncio.to_thread(rejected_command, settings, options) == 0
    printed = capsys.readouterr().out
    assert "invalid_trace_id" in printed
    assert "checkout" in printed
    told = b"".join(record.value for record in log.records[LEDGER_TOPIC, 0])
    for text in (printed.encode(), told):
        assert SECRET.encode() not in text


async def test_log_records_and_points_are_sampled_too(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    counts = GatewayCounts(log)
    logs = ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(event_name="login")
    record.time_unix_nano = NOW_NS - 365 * 86_400 * 10**9
    record.body.string_value = SECRET
    metrics = ExportMetricsServiceRequest()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="latency")
    point = metric.histogram.data_points.add(time_unix_nano=NOW_NS, bucket_counts=[1, 2])
    point.explicit_bounds.extend([1.0, 2.0, 3.0])
    for signal, request in (("logs", logs), ("metrics", metrics)):
        counts.sample.keep(at(signal), rejected(signal, request.SerializeToString()))
    await stored(log, counts, clickhouse)
    rows = await clickhouse.query(
        "SELECT Signal, Reason, Name FROM telemetry.tf_rejected ORDER BY Signal"
    )
    assert [tuple(row) for row in rows] == [
        ("logs", "older_than_retention", "login"),
        ("metrics", "bucket_counts_mismatch", "latency"),
    ]


async def test_a_tenant_sees_its_own_samples_only(clickhouse: ClickHouse) -> None:
    for statement in (*views_of_all("telemetry"), *views_of_tenant("telemetry", "acme")):
        await clickhouse.command(statement)
    log = MemoryLog()
    counts = GatewayCounts(log)
    for tenant in ("acme", "umbrella"):
        body = spans(b"x", name=f"of {tenant}")
        counts.sample.keep(at("traces", tenant), rejected("traces", body))
    await stored(log, counts, clickhouse)
    own = await clickhouse.query("SELECT Name FROM tenant_acme.rejected_items")
    assert [tuple(row) for row in own] == [("of acme",)]
    everybody = await clickhouse.query("SELECT TenantId FROM telemetry.rejected_items ORDER BY 1")
    assert [tuple(row) for row in everybody] == [("acme",), ("umbrella",)]


def test_samples_are_few_and_small() -> None:
    sample = GatewayCounts(MemoryLog()).sample
    place = at("traces")
    body = spans(*[b"x"] * 100, name="n" * 1_000)
    sample.keep(place, rejected("traces", body))
    sample.keep(place, rejected("traces", body))
    kept = sample.take()
    assert len(kept) == SAMPLES_MAX
    assert {len(one[5]) for one in kept} == {REJECTED_TEXT_CHARACTERS_MAX}
    sample.keep(place, rejected("traces", body))
    assert sample.take() == []
    sample.keep(place._replace(minute=place.minute + 1), rejected("traces", body))
    assert len(sample.take()) == SAMPLES_MAX
    for number in range(2 * KEPT_MAX):
        sample.keep(at("traces", f"t{number}"), rejected("traces", spans(b"x")))
    assert len(sample.take()) == KEPT_MAX


def test_what_a_sender_named_does_not_command_the_terminal() -> None:
    assert printable("a\x1b[31mb\n") == "a\ufffd[31mb\ufffd"
