"""What users send with, against real processes: every row that arrives is compared."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter as GrpcSpanExporter,
)
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as HttpSpanExporter,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from shared.security.peppers import Peppers
from tests.directory_states import add_key, add_tenant, state_of
from tests.e2e.processes import ROOT, Product, Row, accepts_connections, wait_for
from tests.ports import free_ports

SENDERS: Final = ROOT / "tests" / "e2e" / "senders"
ITEMS: Final = json.loads((SENDERS / "items.json").read_text())
NODE_SENDER: Final = SENDERS / "node_sdk"
SEND_SECONDS_MAX: Final = 60
INSTALL_SECONDS_MAX: Final = 300
NO_PARENT: Final = "0" * 16

SPANS_SQL: Final = """
    SELECT lower(hex(TraceId)) AS traceId, lower(hex(SpanId)) AS spanId,
        lower(hex(ParentSpanId)) AS parentSpanId, SpanName AS name, SpanKind AS kind,
        toString(toUnixTimestamp64Nano(Timestamp)) AS startNs, toString(Duration) AS durationNs,
        SpanAttributes AS attributes, ResourceAttributes AS resource,
        StatusCode AS status, StatusMessage AS message,
        ScopeName AS scope, ScopeVersion AS scopeVersion, ScopeSchemaUrl AS schemaUrl,
        Events.Name AS events, Events.Attributes AS eventAttributes,
        Links.TraceId AS linkTraces, Links.SpanId AS linkSpans, Links.Attributes AS linkAttributes
    FROM tf_traces WHERE ServiceName = {service:String}
"""
LOGS_SQL: Final = """
    SELECT toString(toUnixTimestamp64Nano(Timestamp)) AS timeNs, Body AS body,
        SeverityText AS severity, SeverityNumber AS number, EventName AS event,
        LogAttributes AS attributes, ResourceAttributes AS resource, ScopeName AS scope
    FROM tf_logs WHERE ServiceName = {service:String}
"""
METRICS_SQL: Final = """
    SELECT name, value, detail, Attributes AS attributes, ResourceAttributes AS resource
    FROM (
        SELECT MetricName AS name, ServiceName, Attributes, ResourceAttributes,
            Value AS value, toString(IsMonotonic) AS detail FROM tf_metrics_sum
        UNION ALL
        SELECT MetricName AS name, ServiceName, Attributes, ResourceAttributes,
            Value AS value, '' AS detail FROM tf_metrics_gauge
        UNION ALL
        SELECT MetricName AS name, ServiceName, Attributes, ResourceAttributes,
            Sum AS value, toString(Count) AS detail FROM tf_metrics_histogram
        UNION ALL
        SELECT MetricName AS name, ServiceName, Attributes, ResourceAttributes,
            Sum AS value, toString(Count) AS detail FROM tf_metrics_exponential_histogram
    )
    WHERE ServiceName = {service:String}
"""
WHOSE_SQL: Final = """
    SELECT TenantId AS tenant, ResourceAttributes['telemetryflow.tenant.id'] AS named
    FROM tf_traces WHERE ServiceName = {service:String} ORDER BY tenant, named
"""
METRICS: Final = {
    "check.latency": (321, "3"),
    "check.pending": (-2, "false"),
    "check.requests": (5, "true"),
    "check.size": (321, "3"),
    "check.temperature": (36.6, ""),
}


@dataclass(frozen=True, slots=True)
class Sender:
    """One way to send: a program, a protocol and a compression."""

    program: str
    protocol: str
    compression: str

    def __str__(self) -> str:
        return f"{self.program}-{self.protocol}-{self.compression}"

    def send(
        self, service: str, *, grpc_port: int, http_port: int, headers: str = ""
    ) -> dict[str, list[Row]]:
        """Sends as *service*, with *headers* as OpenTelemetry writes them; what it sent."""
        port = grpc_port if self.protocol == "grpc" else http_port
        env = {
            "PATH": os.environ["PATH"],
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_HEADERS": headers,
        }
        if self.compression != "none":
            env["OTEL_EXPORTER_OTLP_COMPRESSION"] = self.compression
        done = subprocess.run(
            [*_command_of(self.program), self.protocol, service],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=SEND_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # An SDK tells of a refused export on its log only.
        assert not done.stderr, done.stderr
        sent: dict[str, list[Row]] = json.loads(done.stdout)
        return sent


SENDERS_OF_SDKS: Final = [
    Sender(program, protocol, compression)
    for program in ("python", "node")
    for protocol in ("grpc", "http", "json")
    for compression in ("none", "gzip")
]


def _command_of(program: str) -> list[str]:
    if program == "python":
        return [sys.executable, str(SENDERS / "python_sdk.py")]
    node = shutil.which("node")
    assert node is not None, "node is needed for the tests of the JavaScript SDK"
    return [node, str(NODE_SENDER / "send.mjs")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, str]]:
    """The product, and a key of the workspace `shop` for it."""
    product = Product(tmp_path_factory.mktemp("sdks"))
    directory = state_of("default")
    for tenant, workspace in (("staging", "shop"), ("production", "shop"), ("vault", "bank")):
        add_tenant(directory, tenant, workspace)
    peppers = Peppers.from_text(product.settings["API_KEY_PEPPER"])
    key, secret = add_key(directory, peppers, "", workspace="shop")
    product.write_directory(directory)
    with product:
        yield product, f"Bearer {key.id}:{secret}"


@pytest.fixture(scope="module")
def product(served: tuple[Product, str]) -> Product:
    return served[0]


@pytest.fixture(scope="module", autouse=True)
def _node_packages() -> None:
    """The packages of the JavaScript SDK, as their lock file has them."""
    if (NODE_SENDER / "node_modules" / ".package-lock.json").exists():
        return
    npm = shutil.which("npm")
    assert npm is not None, "npm is needed for the tests of the JavaScript SDK"
    subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=NODE_SENDER,
        check=True,
        capture_output=True,
        timeout=INSTALL_SECONDS_MAX,
    )


def without_service(resource: dict[str, str], service: str) -> dict[str, str]:
    """A resource less its name, which must be *service*."""
    assert resource["service.name"] == service
    return {key: text for key, text in resource.items() if key != "service.name"}


def check_spans(rows: list[Row], sent: list[Row], service: str) -> None:
    expected = {span["spanId"]: span for span in sent}
    assert len(rows) == len(expected)
    for row in rows:
        span = expected.pop(row["spanId"])
        assert {name: row[name] for name in span} == span
        assert without_service(row["resource"], service) == ITEMS["resource"]
        assert (row["scope"], row["scopeVersion"]) == ("sdk.check", "0.9")
        assert row["schemaUrl"] == "https://example.org/1.0"
        if span["parentSpanId"] == NO_PARENT:
            assert row["attributes"] == ITEMS["stored"]
            assert (row["status"], row["message"]) == ("Unset", "")
            assert row["events"] == ["halfway"]
            assert row["eventAttributes"] == [{"step": span["name"].split()[1]}]
        else:
            assert (row["status"], row["message"]) == ("Error", "no answer")
            assert row["linkTraces"] == [span["traceId"]]
            assert row["linkSpans"] == [span["parentSpanId"]]
            assert row["linkAttributes"] == [{"why": "follows"}]


def check_logs(rows: list[Row], sent: list[Row], service: str) -> None:
    expected = {record["timeNs"]: record for record in sent}
    assert len(rows) == len(expected)
    for row in rows:
        record = expected.pop(row["timeNs"])
        assert {name: row[name] for name in record} == record
        assert row["event"] == "checked"
        assert row["attributes"] == ITEMS["stored"]
        assert without_service(row["resource"], service) == ITEMS["resource"]
        assert row["scope"] == "sdk.check"


def check_metrics(rows: list[Row], service: str) -> None:
    assert len(rows) == len(METRICS)
    assert {row["name"]: (row["value"], row["detail"]) for row in rows} == METRICS
    for row in rows:
        assert row["attributes"] == ITEMS["stored"]
        assert without_service(row["resource"], service) == ITEMS["resource"]


def check_everything(product: Product, sent: dict[str, list[Row]], service: str) -> None:
    """That all which was sent is stored, once and as it was."""
    spans = product.wait_for_rows(len(sent["spans"]), SPANS_SQL, service=service)
    check_spans(spans, sent["spans"], service)
    logs = product.wait_for_rows(len(sent["logs"]), LOGS_SQL, service=service)
    check_logs(logs, sent["logs"], service)
    check_metrics(product.wait_for_rows(len(METRICS), METRICS_SQL, service=service), service)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("sender", SENDERS_OF_SDKS, ids=str)
def test_what_an_sdk_sends_is_stored_row_by_row(product: Product, sender: Sender) -> None:
    service = f"sdk-{sender}"
    sent = sender.send(service, grpc_port=product.grpc_port, http_port=product.http_port)
    check_everything(product, sent, service)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_I14_an_sdk_with_a_key_of_a_workspace_says_in_its_resource_which_tenant_it_is(
    served: tuple[Product, str], protocol: str
) -> None:
    product, bearer = served
    service = f"shop-{protocol}"
    named = {"telemetryflow.tenant.id": "staging"}, {"telemetryflow.tenant.id": "production"}
    for attributes in (*named, {"telemetryflow.tenant.id": "vault"}, {}):
        send_span(
            product, protocol, {"authorization": bearer}, {"service.name": service, **attributes}
        )
    routed = {"authorization": bearer, "x-tenant-id": "staging"}
    send_span(product, protocol, routed, {"service.name": service})

    rows = product.wait_for_rows(3, WHOSE_SQL, service=service)

    assert [(row["tenant"], row["named"]) for row in rows] == [
        ("production", "production"),
        ("staging", ""),
        ("staging", "staging"),
    ]


def send_span(
    product: Product, protocol: str, headers: dict[str, str], attributes: dict[str, str]
) -> None:
    """One span through the SDK; what is refused of it is told on the SDK's log."""
    exporter: SpanExporter
    if protocol == "grpc":
        exporter = GrpcSpanExporter(
            f"127.0.0.1:{product.grpc_port}", insecure=True, headers=headers
        )
    else:
        exporter = HttpSpanExporter(
            f"http://127.0.0.1:{product.http_port}/v1/traces", headers=headers
        )
    provider = TracerProvider(resource=Resource(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.get_tracer("shop").start_span("checkout").end()
    provider.shutdown()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_an_agent_forwards_is_stored_row_by_row(
    product: Product, protocol: str, tmp_path: Path
) -> None:
    service = f"agent-{protocol}"
    with agent(product, protocol, tmp_path / "output.txt") as (grpc_port, http_port):
        sender = Sender("python", protocol, "gzip")
        sent = sender.send(service, grpc_port=grpc_port, http_port=http_port)
        check_everything(product, sent, service)


@contextmanager
def agent(product: Product, protocol: str, output: Path) -> Iterator[tuple[int, int]]:
    """A Rotel agent that forwards to the product; gives its ports for gRPC and HTTP."""
    grpc_port, http_port = free_ports(2)
    target = product.grpc_port if protocol == "grpc" else product.http_port
    arguments: dict[str, Any] = {
        "--otlp-grpc-endpoint": f"127.0.0.1:{grpc_port}",
        "--otlp-http-endpoint": f"127.0.0.1:{http_port}",
        "--exporter": "otlp",
        "--otlp-exporter-endpoint": f"http://127.0.0.1:{target}",
        "--otlp-exporter-protocol": protocol,
        "--otlp-exporter-compression": "gzip",
        "--batch-timeout": "100ms",
    }
    program = str(files("rotel") / "rotel-agent")
    flat = [part for argument in arguments.items() for part in argument]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [program, "start", *flat], stdout=file, stderr=file, env={"PATH": os.environ["PATH"]}
        )
    try:
        wait_for(
            "start of the agent",
            lambda: accepts_connections(grpc_port) and accepts_connections(http_port),
            SEND_SECONDS_MAX,
        )
        yield grpc_port, http_port
    finally:
        process.terminate()
        process.wait(SEND_SECONDS_MAX)
