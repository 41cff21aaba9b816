"""What clients are told when a limit or a quota has no room: a real gateway, all transports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import aiohttp
import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from benchmarks import payloads
from ingest.admission import Admission
from ingest.batcher import OWN_BLOCK_BYTES_MIN, Batcher, BlockLimits
from ingest.codec.reference.wire import REQUEST_OF_SIGNAL
from ingest.compression import compression
from ingest.directory import Directory
from ingest.gateway import Gateway
from ingest.ledger.counts import GatewayCounts
from ingest.memory_budget import MemoryBudget
from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits as ReceiverLimits
from ingest.receivers.listener import Receiver
from ingest.signals import LEDGER_TOPIC, Signal
from shared.directory.directory_pb2 import Limits, Quota
from shared.errors import Unavailable
from shared.security.peppers import Peppers
from tests.contract.raw_grpc import METHODS
from tests.directory_states import add_key, state_of
from tests.fakes import MemoryLog

TRANSPORTS: Final = {"http": HttpReceiver, "ngh2": GrpcReceiver, "grpcio": GrpcioReceiver}
RESETS_AT: Final = 1_772_323_200  # 2026-03-01
NOW: Final = RESETS_AT - 86_400.0
PEPPERS: Final = Peppers.from_text("p" * 32)


class Told(NamedTuple):
    """What a client hears, whatever the transport: "ok", an HTTP status or a gRPC code's name."""

    outcome: str
    message: str
    retry_seconds: float | None
    rejected: int = 0


class Served:
    """A receiver over a gateway whose one key and tenant have limits."""

    def __init__(
        self,
        transport: str,
        limits: Limits | None,
        quota: Quota | None,
        of_tenant: Limits | None = None,
    ) -> None:
        self.transport = transport
        # Seconds, by which limits are measured.
        self.now = 0.0
        self.log = MemoryLog()
        directory = Directory(peppers=PEPPERS, clock=lambda: NOW)
        directory.state = state_of("acme")
        key, secret = add_key(directory.state, PEPPERS, "acme", limits=limits)
        self.headers = {"authorization": f"Bearer {key.id}:{secret}"}
        if of_tenant is not None:
            directory.state.tenants["acme"].limits.CopyFrom(of_tenant)
        if quota is not None:
            directory.state.tenants["acme"].quotas.append(quota)
        self.counts = GatewayCounts(self.log)
        self.gateway = Gateway(
            directory=directory,
            admission=Admission(
                key_requests_per_minute=1_000, unix_clock=directory.now, clock=lambda: self.now
            ),
            batcher=Batcher(
                self.log,
                lanes=1,
                limits=BlockLimits(bytes_max=8_000_000, rows_max=65_536, wait_ms=1),
                compress=compression("zstd"),
            ),
            budget=MemoryBudget(bytes_max=1 << 28),
            counts=self.counts,
            request_seed=7,
            clock_ns=lambda: payloads.NOW_NS,
        )
        self.receiver: Receiver = TRANSPORTS[transport](
            self.gateway, "127.0.0.1", 0, limits=ReceiverLimits()
        )

    async def send(self, body: bytes, signal: Signal = Signal.TRACES) -> Told:
        """Export *body*."""
        if self.transport == "http":
            return await self._send_http(body, signal)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.receiver.port}") as channel:
            try:
                metadata = tuple(self.headers.items())
                export = channel.unary_unary(METHODS[signal])
                return _success(await export(body, metadata=metadata))
            except grpc.aio.AioRpcError as error:
                trailers = dict(error.trailing_metadata())
                status = Status.FromString(trailers["grpc-status-details-bin"])
                return Told(error.code().name, error.details(), _retry_seconds(status))

    async def _send_http(self, body: bytes, signal: Signal) -> Told:
        url = f"http://127.0.0.1:{self.receiver.port}/v1/{signal}"
        headers = self.headers | {"content-type": "application/x-protobuf"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=headers) as answer,
        ):
            content = await answer.read()
            if answer.status == 200:
                return _success(content)
            status = Status.FromString(content)
            retry_after = answer.headers.get("Retry-After")
            assert (retry_after is None) == (_retry_seconds(status) is None)
            seconds = None if retry_after is None else float(retry_after)
            return Told(str(answer.status), status.message, seconds)

    def refusals(self) -> dict[str, int]:
        """Refused requests of the tenant in the ledger, by reason."""
        told: dict[str, int] = {}
        for (at, event, reason), count in self.counts._counts.items():
            if event == "refused":
                assert at.tenant == "acme"
                told[reason] = told.get(reason, 0) + count
        return told

    def rows(self) -> int:
        return sum(
            len(one) for (topic, _), one in self.log.records.items() if topic != LEDGER_TOPIC
        )


@asynccontextmanager
async def served(
    transport: str,
    *,
    limits: Limits | None = None,
    quota: Quota | None = None,
    of_tenant: Limits | None = None,
) -> AsyncIterator[Served]:
    running = Served(transport, limits, quota, of_tenant)
    await running.receiver.start()
    try:
        yield running
    finally:
        await running.receiver.drain(1)
        await running.gateway.close()
    assert running.gateway.budget.bytes_held == 0


def _success(content: bytes) -> Told:
    # It has the same fields in each signal.
    partial = ExportTraceServiceResponse.FromString(content).partial_success
    return Told("ok", partial.error_message, None, partial.rejected_spans)


def _retry_seconds(status: Any) -> float | None:
    for detail in status.details:
        info = RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.ToNanoseconds() / 1e9)
    return None


def bodies(count: int, items: int = 1) -> list[bytes]:
    return payloads.requests("traces", items=items, count=count)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_C051_C053_a_key_over_its_limit_is_told_to_wait_and_nothing_is_taken(
    transport: str,
) -> None:
    async with served(transport, limits=Limits(requests_per_minute=12)) as running:
        first, second, *others = [await running.send(body) for body in bodies(5)]

        assert (first.outcome, second.outcome) == ("ok", "ok")
        over = {"http": "429"}.get(transport, "RESOURCE_EXHAUSTED")
        assert {one.outcome for one in others} == {over}
        assert all("more requests than the limit of this key" in one.message for one in others)
        # Five seconds a request, and a quarter more on top so that the least jitter is enough.
        assert all(one.retry_seconds and 3 < one.retry_seconds <= 8 for one in others)
        assert running.rows() == 2
        assert running.refusals() == {"key_requests": 3}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_C051_items_that_were_too_many_hold_up_the_next_request(transport: str) -> None:
    async with served(transport, limits=Limits(items_per_second=1)) as running:
        told = [await running.send(body) for body in bodies(2, items=50)]

        assert told[0].outcome == "ok"
        assert told[1].outcome == {"http": "429"}.get(transport, "RESOURCE_EXHAUSTED")
        # C052: far away, but a client is never told to wait longer than this.
        assert told[1].retry_seconds == 30
        assert running.refusals() == {"key_items": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_C051_bytes_that_were_more_than_a_burst_hold_up_the_next_request(
    transport: str,
) -> None:
    async with served(transport, limits=Limits(bytes_per_second=1)) as running:
        told = [await running.send(body) for body in bodies(2, items=50)]

        assert told[0].outcome == "ok"
        assert told[1].retry_seconds == 30
        assert running.refusals() == {"key_bytes": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_quota_that_is_nearly_used_is_a_warning_beside_success(transport: str) -> None:
    quota = Quota(
        signal="traces",
        items_max=100,
        items_used=90,
        resets_at=RESETS_AT,
        state=Quota.STATE_NEARLY_USED,
    )
    async with served(transport, quota=quota) as running:
        told = await running.send(bodies(1)[0])

        assert (told.outcome, told.rejected) == ("ok", 0)
        assert told.message == (
            "90 of the 100 spans of this month are used; the quota resets at 2026-03-01 00:00 UTC"
        )
        assert running.rows() == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_used_up_quota_is_an_answer_that_clients_do_not_retry(transport: str) -> None:
    quota = Quota(
        signal="traces",
        items_max=100,
        items_used=100,
        resets_at=RESETS_AT,
        state=Quota.STATE_REFUSED,
    )
    async with served(transport, quota=quota) as running:
        told = await running.send(bodies(1)[0])

        assert told.outcome == {"http": "403"}.get(transport, "PERMISSION_DENIED")
        assert told.retry_seconds is None
        assert "100 of the 100 spans of this month are used" in told.message
        assert "until 2026-03-01 00:00 UTC" in told.message
        assert running.rows() == 0
        assert running.refusals() == {"quota": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_L07_a_tenant_that_fills_its_share_of_memory_leaves_others_theirs(
    transport: str,
) -> None:
    async with served(transport) as running:
        budget = running.gateway.budget
        budget.bytes_max = 1_000_000
        budget.reserve(790_000, "flood")
        body = bodies(1, items=50)[0]
        assert len(body) > 10_000

        assert (await running.send(body)).outcome == "ok"
        with pytest.raises(Unavailable):
            budget.reserve(len(body), "flood")
        budget.release(790_000, "flood")


async def test_requests_that_wait_for_their_block_are_counted_as_they_are_decoded() -> None:
    """What is on its way to the log does not slip past the limit together."""
    async with served("http", limits=Limits(items_per_second=1)) as running:
        told = await asyncio.gather(*(running.send(body) for body in bodies(20, items=50)))

        assert [one.outcome for one in told].count("ok") < 5


def labelled(signal: str, *labels: tuple[str, str]) -> bytes:
    """A request of a data point or a log record for each attribute (key, value)."""
    request: Any = REQUEST_OF_SIGNAL[signal]()
    if signal == "metrics":
        place = request.resource_metrics.add().scope_metrics.add().metrics.add(name="load")
        added = [place.gauge.data_points.add(as_double=1) for _ in labels]
    else:
        place = request.resource_logs.add().scope_logs.add()
        added = [place.log_records.add() for _ in labels]
    for item, (key, value) in zip(added, labels, strict=True):
        item.time_unix_nano = payloads.NOW_NS
        item.attributes.add(key=key).value.string_value = value
    content: bytes = request.SerializeToString()
    return content


def hosts(*names: str) -> bytes:
    """A data point of each of these hosts."""
    return labelled("metrics", *(("host", name) for name in names))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_L04_new_series_over_the_limit_are_told_apart_and_known_ones_are_stored(
    transport: str,
) -> None:
    async with served(transport, of_tenant=Limits(new_series_per_hour=2)) as running:
        first = await running.send(hosts("a", "b"), Signal.METRICS)
        over = await running.send(hosts("a", "c", "b", "d"), Signal.METRICS)
        again = await running.send(hosts("a", "c", "b", "d"), Signal.METRICS)
        known = await running.send(hosts("b", "a"), Signal.METRICS)

        assert (first.outcome, first.message) == ("ok", "")
        assert (over.outcome, over.rejected) == ("ok", 2)
        assert over.message.startswith("2 of 4 data points refused; 2: more new series than")
        assert "newSeriesPerHour" in over.message
        # A client that sends it again hears the same.
        assert again == over
        assert (known.outcome, known.message) == ("ok", "")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_L04_new_attribute_keys_over_the_limit_are_told_apart(transport: str) -> None:
    async with served(transport, of_tenant=Limits(new_attribute_keys_per_hour=2)) as running:
        body = labelled("logs", ("a", "1"), ("b", "2"), ("c", "3"), ("a", "4"))
        told = await running.send(body, Signal.LOGS)

        assert (told.outcome, told.rejected) == ("ok", 1)
        assert "1: more new attribute keys than" in told.message
        assert "newAttributeKeysPerHour" in told.message


async def test_L04_at_the_turn_of_the_hour_there_is_room_and_what_lasts_is_not_new() -> None:
    async with served("http", of_tenant=Limits(new_series_per_hour=2)) as running:
        told = []
        for seconds, names in (
            (0, "ab"),
            (3_599, "abc"),
            (3_600, "abcd"),
            (7_200, "abcd"),
            (7_200, "abcdef"),
            # Everybody was silent for two hours, and is new.
            (14_400, "abc"),
        ):
            running.now = float(seconds)
            told.append((await running.send(hosts(*names), Signal.METRICS)).rejected)

        assert told == [0, 1, 0, 0, 0, 1]


async def test_L04_a_large_request_in_a_thread_meets_the_same_guard() -> None:
    async with served("ngh2", of_tenant=Limits(new_series_per_hour=5_000)) as running:
        names = [f"{number:0100}" for number in range(8_000)]
        body = hosts(*names)
        assert len(body) > OWN_BLOCK_BYTES_MIN

        large = await running.send(body, Signal.METRICS)
        small = await running.send(hosts(names[4_999], names[5_000]), Signal.METRICS)

        assert (large.rejected, small.rejected) == (3_000, 1)
