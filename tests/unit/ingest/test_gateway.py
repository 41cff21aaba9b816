"""The gateway: what is answered, and that success means durable."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks import payloads
from ingest import batcher
from ingest.admission import Admission
from ingest.batcher import Batcher, BlockLimits
from ingest.codec import Appended, Malformed
from ingest.compression import compression
from ingest.directory import Directory
from ingest.exports import FULL_SUCCESS, Answer, Encoding
from ingest.gateway import Gateway
from ingest.ledger.counts import GatewayCounts
from ingest.log import Headers
from ingest.memory_budget import MemoryBudget
from ingest.records import from_headers
from ingest.signals import Signal
from shared.errors import Invalid, Unauthenticated, Unavailable
from shared.security.credentials import Credentials
from shared.security.peppers import Peppers
from tests.directory_states import state_of
from tests.fakes import MemoryLog

NOBODY = Credentials()
LIMITS = BlockLimits(bytes_max=8_000_000, rows_max=65_536, wait_ms=1)
TRACES = "otlp.traces.v1"


class GatedLog(MemoryLog):
    """A log whose appends wait until they may go on, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        self.appends = 0

    async def append_many(
        self, topic: str, partition: int, records: Sequence[tuple[bytes, Headers]]
    ) -> list[int]:
        self.appends += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return await super().append_many(topic, partition, records)


def gateway_on(log: MemoryLog, limits: BlockLimits = LIMITS, *, tenant: str = "default") -> Gateway:
    directory = Directory(peppers=Peppers.from_text("p" * 32), keyless_tenant=tenant)
    directory.state = state_of(tenant)
    return Gateway(
        directory=directory,
        admission=Admission(key_requests_per_minute=0, unix_clock=directory.now),
        batcher=Batcher(log, lanes=1, limits=limits, compress=compression("zstd")),
        budget=MemoryBudget(bytes_max=1 << 30),
        counts=GatewayCounts(log),
        request_seed=7,
        clock_ns=lambda: payloads.NOW_NS,
    )


def request(items: int = 5) -> bytes:
    return payloads.requests("traces", items=items, count=1)[0]


async def export(gateway: Gateway, body: bytes, encoding: Encoding = Encoding.PROTOBUF) -> Answer:
    return await gateway.export(Signal.TRACES, NOBODY, encoding, body)


async def rows_in(log: MemoryLog, topic: str = TRACES) -> int:
    records = await log.read(topic, 0, 0, records_max=10_000, bytes_max=1 << 30, wait_seconds=0)
    return sum(from_headers(record.headers).rows for record in records)


async def test_I14_rows_belong_to_the_tenant_of_the_credentials() -> None:
    log = MemoryLog()
    await export(gateway_on(log, tenant="acme"), request())
    (record,) = log.records[TRACES, 0]
    assert from_headers(record.headers).tenants == (("acme", 5, ""),)


async def test_I1_success_is_answered_only_when_the_rows_are_durable() -> None:
    log = GatedLog()
    gateway = gateway_on(log)
    answer = asyncio.create_task(export(gateway, request()))
    async with asyncio.timeout(5):
        while not log.appends:
            await asyncio.sleep(0.001)
    assert not answer.done()

    log.gate.set()

    assert await answer == FULL_SUCCESS
    assert await rows_in(log) == 5
    await gateway.close()


async def test_I2_a_log_that_refuses_makes_every_request_of_the_block_retryable() -> None:
    log = GatedLog()
    log.error = Unavailable("the disk is full", retry_after_seconds=3)
    log.gate.set()
    gateway = gateway_on(log)

    answers = await asyncio.gather(
        *(export(gateway, body) for body in payloads.requests("traces", items=2, count=3)),
        return_exceptions=True,
    )

    assert [str(answer) for answer in answers] == ["the disk is full"] * 3
    assert all(isinstance(answer, Unavailable) for answer in answers)
    log.error = None
    assert await export(gateway, request()) == FULL_SUCCESS
    await gateway.close()


async def test_C054_an_unexpected_error_is_retryable_and_tells_nothing() -> None:
    log = GatedLog()
    log.error = RuntimeError("/var/lib/secret path")
    log.gate.set()
    gateway = gateway_on(log)

    with pytest.raises(Unavailable) as error:
        await export(gateway, request())

    assert "secret" not in str(error.value)
    await gateway.close()


async def test_requests_that_come_together_share_a_block_and_each_knows_its_rows() -> None:
    log = GatedLog()
    gateway = gateway_on(log)
    bodies = payloads.requests("traces", items=3, count=20)
    waiting = [asyncio.create_task(export(gateway, body)) for body in bodies]
    await asyncio.sleep(0.05)
    log.gate.set()
    await asyncio.gather(*waiting)

    records = await log.read(TRACES, 0, 0, records_max=99, bytes_max=1 << 30, wait_seconds=0)
    infos = [from_headers(record.headers) for record in records]

    assert len(infos) < 5
    assert sum(info.rows for info in infos) == 60
    for info in infos:
        ends = [entry.first_row + entry.rows for entry in info.requests]
        assert [entry.first_row for entry in info.requests] == [0, *ends[:-1]]
        assert ends[-1] == info.rows
    assert len({entry.id for info in infos for entry in info.requests}) == 20
    await gateway.close()


async def test_the_same_request_has_the_same_id_and_another_seed_gives_another() -> None:
    ids = []
    for seed in (7, 7, 8):
        log = MemoryLog()
        gateway = gateway_on(log)
        gateway._request_seed = seed
        await export(gateway, request())
        await gateway.close()
        [record] = await log.read(TRACES, 0, 0, records_max=9, bytes_max=9999999, wait_seconds=0)
        ids.append(from_headers(record.headers).requests[0].id)

    assert ids[0] == ids[1] != ids[2]


async def test_a_large_request_is_stored_whole_in_several_blocks() -> None:
    log = MemoryLog()
    gateway = gateway_on(log, BlockLimits(bytes_max=300_000, rows_max=65_536, wait_ms=1))

    assert await export(gateway, request(items=3_000)) == FULL_SUCCESS

    records = await log.read(TRACES, 0, 0, records_max=999, bytes_max=1 << 30, wait_seconds=0)
    infos = [from_headers(record.headers) for record in records]
    assert len(infos) > 3
    assert sum(info.rows for info in infos) == 3_000
    assert [info.requests[0].part for info in infos] == list(range(len(infos)))
    assert len({info.requests[0].id for info in infos}) == 1
    await gateway.close()


async def test_a_block_that_is_full_makes_room_without_failing_anyone() -> None:
    log = MemoryLog()
    gateway = gateway_on(log, BlockLimits(bytes_max=8_000_000, rows_max=10, wait_ms=5))
    bodies = payloads.requests("traces", items=4, count=50)

    answers = await asyncio.gather(*(export(gateway, body) for body in bodies))

    assert answers == [FULL_SUCCESS] * 50
    assert await rows_in(log) == 200
    await gateway.close()


async def test_F08_who_waits_for_room_is_decoded_when_there_is_room_and_not_for_each_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else overload makes the gateway slower, which is more overload."""
    gateway = gateway_on(MemoryLog(), BlockLimits(bytes_max=8_000_000, rows_max=10, wait_ms=5))
    encoded, decodes = batcher._encoded, 0

    def counted(*arguments: Any) -> Appended:
        nonlocal decodes
        decodes += 1
        return encoded(*arguments)

    monkeypatch.setattr(batcher, "_encoded", counted)
    bodies = payloads.requests("traces", items=4, count=100)

    assert await asyncio.gather(*(export(gateway, body) for body in bodies)) == [FULL_SUCCESS] * 100

    # Once each, and once more for one of the two of a block, which found the last one full.
    assert decodes < 200
    await gateway.close()


async def test_F08_who_waits_for_room_too_long_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher, "DURABLE_SECONDS_MAX", 0.2)
    log = GatedLog()
    gateway = gateway_on(log, BlockLimits(bytes_max=8_000_000, rows_max=10, wait_ms=5))
    bodies = payloads.requests("traces", items=4, count=40)
    answers = await asyncio.gather(
        *(export(gateway, body) for body in bodies), return_exceptions=True
    )

    assert {type(answer) for answer in answers} == {Unavailable}
    log.gate.set()
    assert await export(gateway, request()) == FULL_SUCCESS
    await gateway.close()


async def test_C055_a_caller_that_gives_up_neither_loses_nor_leaks() -> None:
    log = GatedLog()
    gateway = gateway_on(log)
    before = len(asyncio.all_tasks())
    bodies = payloads.requests("traces", items=5, count=50)
    given_up = [asyncio.create_task(export(gateway, body)) for body in bodies]
    await asyncio.sleep(0.02)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    log.gate.set()

    await gateway.close()

    assert await rows_in(log) == 250
    assert len(asyncio.all_tasks()) == before


async def test_I9_a_repeat_is_told_so_and_stored_once_whether_under_way_or_done() -> None:
    log = GatedLog()
    gateway = gateway_on(log)
    first = asyncio.create_task(export(gateway, request()))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(export(gateway, request()))
    await asyncio.sleep(0.02)
    assert not second.done()
    log.gate.set()

    assert await first == FULL_SUCCESS
    for answer in (await second, await export(gateway, request())):
        assert answer.rejected == 0
        assert "received before" in answer.message
    assert await rows_in(log) == 5
    await gateway.close()


async def test_I9_a_repeat_of_what_failed_is_made_durable() -> None:
    log = GatedLog()
    log.error = Unavailable("the disk is full")
    gateway = gateway_on(log)
    first = asyncio.create_task(export(gateway, request()))
    second = asyncio.create_task(export(gateway, request()))
    await asyncio.sleep(0.02)
    log.gate.set()
    with pytest.raises(Unavailable):
        await first
    log.error = None

    outcomes = await asyncio.gather(second, return_exceptions=True)
    assert await export(gateway, request()) is not None

    assert len(outcomes) == 1
    assert await rows_in(log) == 5
    await gateway.close()


async def test_C034_refused_items_are_counted_with_reason_and_advice() -> None:
    message = ExportTraceServiceRequest.FromString(request(items=5))
    spans = message.resource_spans[0].scope_spans[0].spans
    spans[0].trace_id = b"short"
    log = MemoryLog()
    gateway = gateway_on(log)

    answer = await export(gateway, message.SerializeToString())

    assert answer.rejected == 1
    assert "1 of 5 spans refused" in answer.message
    assert "16 bytes" in answer.message
    assert await rows_in(log) == 4
    (sample,) = gateway._counts.sample.take()
    assert (sample[1], sample[3]) == ("default", "invalid_trace_id")
    await gateway.close()


async def test_C034_an_item_of_any_size_is_sampled_when_it_is_rejected() -> None:
    message = ExportTraceServiceRequest.FromString(request(items=2))
    large = message.resource_spans[0].scope_spans[0].spans[0]
    large.name = "large"
    large.attributes.add(key="blob").value.string_value = "x" * 2_000_000
    gateway = gateway_on(MemoryLog(), BlockLimits(bytes_max=1_000_000, rows_max=65_536, wait_ms=1))

    answer = await export(gateway, message.SerializeToString())

    assert answer.rejected == 1
    assert "INGEST_BLOCK_BYTES_MAX" in answer.message
    (sample,) = gateway._counts.sample.take()
    assert (sample[3], sample[5]) == ("item_too_large", "large")
    await gateway.close()


async def test_C037_a_repair_is_a_warning_without_refused_items() -> None:
    body = request(items=1).replace(b"service.name", b"service.n\xffme", 1)
    gateway = gateway_on(MemoryLog())

    answer = await export(gateway, body)

    assert answer.rejected == 0
    assert "U+FFFD" in answer.message
    await gateway.close()


async def test_C032_an_empty_request_succeeds_and_stores_nothing() -> None:
    log = MemoryLog()
    gateway = gateway_on(log)

    assert await export(gateway, b"") == FULL_SUCCESS
    assert await export(gateway, b"{}", Encoding.JSON) == FULL_SUCCESS
    assert await rows_in(log) == 0
    await gateway.close()


async def test_C044_what_cannot_be_decoded_is_invalid_and_harms_no_neighbour() -> None:
    log = MemoryLog()
    gateway = gateway_on(log)

    answers = await asyncio.gather(
        export(gateway, request()),
        export(gateway, b"\x0a\xff"),
        export(gateway, request(3)),
        export(gateway, b"{", Encoding.JSON),
        return_exceptions=True,
    )

    assert answers[0] == answers[2] == FULL_SUCCESS
    assert isinstance(answers[1], Malformed)
    assert isinstance(answers[3], Invalid)
    assert await rows_in(log) == 8
    await gateway.close()


async def test_after_close_everything_taken_is_durable_and_more_is_retryable() -> None:
    log = MemoryLog()
    gateway = gateway_on(log, BlockLimits(bytes_max=8_000_000, rows_max=65_536, wait_ms=10_000))
    waiting = asyncio.create_task(export(gateway, request()))
    await asyncio.sleep(0.01)

    await gateway.close()

    assert await waiting == FULL_SUCCESS
    assert gateway.ready() == "shutting down"
    with pytest.raises(Unavailable, match="shutting down"):
        await export(gateway, request())


async def test_unknown_credentials_are_refused_before_the_body_is_looked_at() -> None:
    gateway = gateway_on(MemoryLog())

    with pytest.raises(Unauthenticated):
        await gateway.export(
            Signal.TRACES,
            Credentials("tfk_" + "1" * 32, "tfs_" + "0" * 64),
            Encoding.PROTOBUF,
            b"\xff",
        )
    await gateway.close()
