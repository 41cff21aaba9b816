"""Keys of a workspace, and requests that contradict themselves: every transport, a real gateway."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import orjson
import pytest
from backports import zstd
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from benchmarks.payloads import NOW_NS
from ingest.admission import Admission
from ingest.batcher import Batcher, BlockLimits
from ingest.codec.reference.native import Reader
from ingest.compression import compression
from ingest.dead_letters import DeadLetterLimits
from ingest.directory import Directory
from ingest.exports import FULL_SUCCESS, Encoding
from ingest.gateway import Gateway
from ingest.ledger.counts import GatewayCounts
from ingest.memory_budget import MemoryBudget
from ingest.partition_writer import PartitionWriter
from ingest.ranges import BatchLimits
from ingest.records import from_headers
from ingest.signals import LEDGER_TOPIC, Signal
from shared.errors import Invalid, Unavailable
from shared.security.credentials import Credentials
from shared.security.peppers import Peppers
from tests.contract.raw_grpc import EXPORT, grpc_server
from tests.contract.raw_http import JSON, PROTOBUF, http_server, post
from tests.directory_states import add_key, add_tenant, state_of
from tests.fakes import MemoryInserts, MemoryLog
from tests.unit.ingest.codec.otlp_json import to_json

PEPPERS = Peppers.from_text("p" * 32)
TRACES = "otlp.traces.v1"
SECONDS = 20
TENANT_ID = "telemetryflow.tenant.id"
TRANSPORTS = ("http", "json", "ngh2", "grpcio")
every_transport = pytest.mark.parametrize("transport", TRANSPORTS)


@dataclass
class Served:
    """A gateway whose workspace `shop` has two tenants, and another workspace one."""

    log: MemoryLog = field(default_factory=MemoryLog)

    def __post_init__(self) -> None:
        self.state = state_of("staging", "production", workspace="shop")
        add_tenant(self.state, "globex", "bank")
        self.key, self.secret = add_key(self.state, PEPPERS, "", workspace="shop")
        self.tenant_key, self.tenant_secret = add_key(self.state, PEPPERS, "staging")
        self.counts = GatewayCounts(self.log)
        directory = Directory(peppers=PEPPERS)
        directory.state = self.state
        limits = BlockLimits(bytes_max=8_000_000, rows_max=65_536, wait_ms=1)
        self.gateway = Gateway(
            directory=directory,
            admission=Admission(key_requests_per_minute=0, unix_clock=directory.now),
            batcher=Batcher(self.log, lanes=1, limits=limits, compress=compression("zstd")),
            budget=MemoryBudget(bytes_max=1 << 30),
            counts=self.counts,
            request_seed=7,
            clock_ns=lambda: NOW_NS,
        )

    @property
    def bearer(self) -> str:
        """The key of the workspace."""
        return f"Bearer {self.key.id}:{self.secret}"

    @property
    def tenant_bearer(self) -> str:
        """A key of the tenant `staging`."""
        return f"Bearer {self.tenant_key.id}:{self.tenant_secret}"

    def stored(self) -> dict[str, list[str]]:
        """Names of the spans in the log, by tenant."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for record in self.log.records.get((TRACES, 0), []):
            for row in Reader(zstd.decompress(record.value)).rows():
                found[row["TenantId"]].append(row["SpanName"])
        return {tenant: sorted(names) for tenant, names in found.items()}

    async def told(self) -> set[tuple[str, str, str, int]]:
        """What the ledger was told: tenant, event, reason, count."""
        await self.counts.flush()
        documents = [orjson.loads(one.value) for one in self.log.records[LEDGER_TOPIC, 0]]
        return {
            (tenant, event, reason, count)
            for document in documents
            for _minute, tenant, _signal, event, reason, count in document["counts"]
        }


class Told(NamedTuple):
    """What a client hears: ok, forbidden or another name; and the partial success."""

    outcome: str
    rejected: int
    message: str


async def send(served: Served, transport: str, request: Any, bearer: str, **headers: str) -> Told:
    """One export; *headers* with underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    gateway = cast(Any, served.gateway)
    if transport in ("http", "json"):
        is_json = transport == "json"
        body = to_json(request, numbers_as_strings=True).encode() if is_json else None
        async with http_server(gateway) as http:
            answer = await http.once(
                post(
                    body or request.SerializeToString(),
                    content_type=JSON if is_json else PROTOBUF,
                    authorization=bearer,
                    headers=named,
                )
            )
        outcome = {200: "ok", 403: "forbidden", 503: "unavailable"}[answer.status]
        if outcome != "ok":
            return Told(outcome, 0, str(answer.body))
        if is_json:
            partial = orjson.loads(answer.body or b"{}").get("partialSuccess", {})
            rejected = int(partial.get("rejectedSpans", 0))
            return Told("ok", rejected, partial.get("errorMessage", ""))
        return _ok(answer.body)
    metadata = (("authorization", bearer), *named.items())
    async with (
        grpc_server(transport, gateway) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        call = channel.unary_unary(EXPORT)
        try:
            return _ok(await call(request.SerializeToString(), metadata=metadata, timeout=SECONDS))
        except grpc.aio.AioRpcError as error:
            codes = {
                grpc.StatusCode.PERMISSION_DENIED: "forbidden",
                grpc.StatusCode.UNAVAILABLE: "unavailable",
            }
            return Told(codes[error.code()], 0, error.details() or "")


def _ok(body: bytes) -> Told:
    partial = ExportTraceServiceResponse.FromString(body).partial_success
    return Told("ok", partial.rejected_spans, partial.error_message)


def spans(*resources: tuple[str | None, str]) -> ExportTraceServiceRequest:
    """A request of one span for each tenant (None: it names none) and name."""
    request = ExportTraceServiceRequest()
    for tenant, name in resources:
        place = request.resource_spans.add()
        place.resource.attributes.add(key="service.name").value.string_value = "shop"
        if tenant is not None:
            place.resource.attributes.add(key=TENANT_ID).value.string_value = tenant
        place.scope_spans.add().spans.add(
            trace_id=b"t" * 16, span_id=b"s" * 8, name=name, start_time_unix_nano=NOW_NS
        )
    return request


@every_transport
async def test_I14_the_header_names_a_tenant_of_the_keys_workspace(transport: str) -> None:
    served = Served()

    told = await send(
        served,
        transport,
        spans((None, "a"), ("staging", "b")),
        served.bearer,
        x_tenant_id="staging",
    )

    assert told == ("ok", 0, "")
    assert served.stored() == {"staging": ["a", "b"]}


@every_transport
async def test_I14_each_resource_goes_to_the_tenant_that_it_names_and_a_foreign_one_nowhere(
    transport: str,
) -> None:
    served = Served()
    mixed = spans(
        *(("staging", "s1"), ("production", "p1"), ("globex", "g1"), ("staging", "s2")),
        *((None, "n1"), ("nobody", "x1"), ("production", "p2")),
    )

    told = await send(served, transport, mixed, served.bearer)

    assert (told.outcome, told.rejected) == ("ok", 3)
    assert "3 of 7 spans refused" in told.message
    assert "2: the resource names a tenant" in told.message
    assert "1: a key of a workspace needs X-Tenant-Id" in told.message
    assert served.stored() == {"staging": ["s1", "s2"], "production": ["p1", "p2"]}
    assert await served.told() == {
        ("staging", "received", "", 2),
        ("staging", "acked", "", 2),
        ("production", "received", "", 2),
        ("production", "acked", "", 2),
        ("", "received", "", 3),
        ("", "rejected", "tenant_contradiction", 2),
        ("", "rejected", "tenant_missing", 1),
    }


@every_transport
async def test_S31_a_tenant_of_another_workspace_and_one_that_nobody_has_are_refused_alike(
    transport: str,
) -> None:
    served = Served()
    body = spans((None, "a"))

    foreign = await send(served, transport, body, served.bearer, x_tenant_id="globex")
    unknown = await send(served, transport, body, served.bearer, x_tenant_id="nobody")
    other = await send(served, transport, body, served.bearer, x_workspace_id="bank")

    assert foreign == unknown
    assert foreign.outcome == other.outcome == "forbidden"
    assert "X-Tenant-Id names another tenant" in foreign.message
    assert "X-Workspace-Id names another workspace" in other.message
    assert served.stored() == {}
    assert await served.told() == {("", "refused", "tenant_contradiction", 3)}


@every_transport
async def test_I14_a_key_of_a_tenant_is_contradicted_by_headers_and_by_resources(
    transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served()
    body = spans((None, "a"), ("production", "b"), ("staging", "c"))

    header = await send(served, transport, body, served.tenant_bearer, x_tenant_id="production")
    workspace = await send(served, transport, body, served.tenant_bearer, x_workspace_id="bank")
    own = await send(
        served, transport, body, served.tenant_bearer, x_workspace_id="shop", x_tenant_id="staging"
    )

    assert (header.outcome, workspace.outcome) == ("forbidden", "forbidden")
    assert (own.outcome, own.rejected) == ("ok", 1)
    assert served.stored() == {"staging": ["a", "c"]}
    assert await served.told() == {
        ("staging", "refused", "tenant_contradiction", 2),
        ("staging", "received", "", 3),
        ("staging", "acked", "", 2),
        ("staging", "rejected", "tenant_contradiction", 1),
    }
    logged = [record.getMessage() for record in caplog.records if record.name == "ingest.gateway"]
    # Of each, the first; never the secret.
    assert len(logged) == 2
    assert served.tenant_secret not in caplog.text


async def test_I14_the_retention_of_each_row_is_that_of_its_tenant() -> None:
    served = Served()
    add_tenant(served.state, "production", "shop", traces_days=90)

    await send(served, "http", spans(("staging", "s"), ("production", "p")), served.bearer)

    records = [from_headers(one.headers) for one in served.log.records[TRACES, 0]]
    assert {(one.tenants[0].tenant, one.retention_days) for one in records} == {
        ("staging", 14),
        ("production", 90),
    }


async def test_I14_a_tenant_that_is_deactivated_takes_nothing_and_its_neighbour_does() -> None:
    served = Served()
    add_tenant(served.state, "production", "shop", is_active=False)

    told = await send(served, "http", spans(("staging", "s"), ("production", "p")), served.bearer)
    header = await send(served, "http", spans((None, "a")), served.bearer, x_tenant_id="production")

    assert told.rejected == 1
    assert header.outcome == "forbidden"
    assert served.stored() == {"staging": ["s"]}


async def test_C032_a_request_without_resources_needs_no_tenant() -> None:
    served = Served()

    assert await send(served, "http", spans(), served.bearer) == ("ok", 0, "")


async def test_C044_a_body_that_is_malformed_behind_a_good_resource_is_refused_whole() -> None:
    served = Served()
    credentials = Credentials(served.key.id, served.secret)
    body = spans(("staging", "s")).SerializeToString() + b"\x0a\xff"

    with pytest.raises(Invalid, match="not an OTLP request"):
        await served.gateway.export(Signal.TRACES, credentials, Encoding.PROTOBUF, body)

    assert served.stored() == {}


class HalfLog(MemoryLog):
    """Refuses what `is_refused` says, by the tenants of a record."""

    is_refused: Callable[[str], bool] = staticmethod(lambda _: False)

    async def append_many(self, topic: str, partition: int, records: Any) -> list[int]:
        for _value, headers in records:
            if topic == TRACES and self.is_refused(from_headers(headers).tenants[0].tenant):
                raise Unavailable("the disk is full")
        return await super().append_many(topic, partition, records)


@pytest.mark.parametrize("is_same_gateway", [True, False])
@every_transport
async def test_I9_a_mixed_request_of_which_a_part_was_stored_is_retryable_and_stored_once(
    transport: str, is_same_gateway: bool
) -> None:
    log = HalfLog()
    first = Served(log)
    # Classes of retention apart, so that the two do not share a record.
    add_tenant(first.state, "production", "shop", traces_days=90)
    mixed = spans(("staging", "s1"), ("production", "p1"), ("globex", "g1"), ("staging", "s2"))
    log.is_refused = lambda tenant: tenant == "production"
    half = await send(first, transport, mixed, first.bearer)
    log.is_refused = lambda _: False
    again = first if is_same_gateway else Served(log)
    add_tenant(again.state, "production", "shop", traces_days=90)

    whole = await send(again, transport, mixed, again.bearer)
    repeat = await send(again, transport, mixed, again.bearer)

    assert half.outcome == "unavailable"
    assert (whole.outcome, whole.rejected) == ("ok", 1)
    assert (repeat.outcome, repeat.rejected) == ("ok", 1)
    assert "the parts of 2 tenants were received before" in repeat.message
    assert set(first.stored()) == {"staging", "production"}
    assert len(first.stored()["staging"]) == (2 if is_same_gateway else 4)
    assert await written(log) == {"staging": 2, "production": 1}


async def written(log: MemoryLog) -> dict[str, int]:
    """Rows by tenant that a writer makes of the log."""
    inserts = MemoryInserts()

    async def ensure(_tenants: Sequence[str]) -> None:
        """There are tables for all."""

    writer = PartitionWriter(
        log,
        TRACES,
        0,
        inserts,
        limits=BatchLimits(rows_max=100_000, bytes_max=32 << 20, wait_ms=0),
        ensure_tenants=ensure,
        insert_slots=asyncio.Semaphore(4),
        dead_letter_limits=DeadLetterLimits(),
        sleep=asyncio.sleep,
    )
    while await writer.step():
        pass
    rows: Counter[str] = Counter()
    for insert in inserts.stored:
        for value in insert.values:
            rows.update(row["TenantId"] for row in Reader(zstd.decompress(value)).rows())
    return dict(rows)


async def test_I9_a_repeat_of_a_mixed_request_is_told_so() -> None:
    served = Served()
    mixed = spans(("staging", "s"), ("production", "p"))
    credentials = Credentials(served.key.id, served.secret)
    body = mixed.SerializeToString()

    first = await served.gateway.export(Signal.TRACES, credentials, Encoding.PROTOBUF, body)
    again = await served.gateway.export(Signal.TRACES, credentials, Encoding.PROTOBUF, body)

    assert first == FULL_SUCCESS
    assert (again.rejected, "received before" in again.message) == (0, True)
    assert served.stored() == {"staging": ["s"], "production": ["p"]}
