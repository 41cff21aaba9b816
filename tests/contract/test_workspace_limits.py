"""Quotas and guards of each tenant hold for its part of a request with a key of a workspace."""

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks import payloads
from ingest.codec.reference.wire import decoded
from ingest.exports import Encoding
from ingest.signals import ITEMS_OF_SIGNAL, Signal
from shared.directory.directory_pb2 import Quota
from shared.security.credentials import Credentials
from tests.contract.test_workspace_keys import (
    TENANT_ID,
    Served,
    every_transport,
    send,
    spans,
    written,
)
from tests.fakes import MemoryLog


def use_up(served: Served, *tenants: str) -> None:
    """Their spans of this month are used up."""
    for tenant in tenants:
        served.state.tenants[tenant].quotas.add(
            signal="traces",
            items_max=9,
            items_used=9,
            resets_at=4_000_000_000,
            state=Quota.STATE_REFUSED,
        )


@every_transport
async def test_C051_of_a_mixed_request_what_a_used_up_quota_refuses_is_told_and_others_are_stored(
    transport: str,
) -> None:
    served = Served()
    use_up(served, "production")
    mixed = spans(("staging", "s"), ("production", "p1"), ("production", "p2"), (None, "n"))

    told = await send(served, transport, mixed, served.bearer)

    assert (told.outcome, told.rejected) == ("ok", 3)
    assert "3 of 4 spans refused" in told.message
    assert "2: the tenant's quota of this month is used up" in told.message
    assert served.stored() == {"staging": ["s"]}
    samples = served.counts.sample.take()
    assert {(one[1], one[3], one[5]) for one in samples} == {
        ("production", "quota", "p1"),
        ("production", "quota", "p2"),
        ("", "tenant_missing", "n"),
    }
    assert await served.told() == {
        ("staging", "received", "", 1),
        ("staging", "acked", "", 1),
        ("production", "received", "", 2),
        ("production", "rejected", "quota", 2),
        ("", "received", "", 1),
        ("", "rejected", "tenant_missing", 1),
    }


@every_transport
async def test_C051_a_mixed_request_of_used_up_quotas_alone_is_refused_as_for_one_tenant(
    transport: str,
) -> None:
    served = Served()
    use_up(served, "staging", "production")

    told = await send(
        served, transport, spans(("staging", "s"), ("production", "p")), served.bearer
    )

    assert told.outcome == "forbidden"
    assert "9 of the 9 spans of this month are used" in told.message
    assert served.stored() == {}
    assert await served.told() == {("", "refused", "quota", 1)}


@pytest.mark.parametrize("signal", Signal)
async def test_C051_items_of_a_used_up_quota_are_counted_in_every_signal(signal: Signal) -> None:
    served = Served()
    use_up(served, "production")
    served.state.tenants["production"].quotas[0].signal = signal
    used, left = (
        _all_of(signal, tenant, body)
        for tenant, body in zip(
            ("production", "staging"),
            payloads.requests(signal.value, items=70, count=2),
            strict=True,
        )
    )

    told = await served.gateway.export(
        signal, Credentials(served.key.id, served.secret), Encoding.PROTOBUF, used + left
    )

    assert told.rejected == 70
    assert f"70 of 140 {ITEMS_OF_SIGNAL[signal]} refused" in told.message


def _all_of(signal: Signal, tenant: str, body: bytes) -> bytes:
    """The request, with resources that name *tenant*."""
    request = decoded(signal.value, body).message
    [(_field, resources)] = request.ListFields()
    for one in resources:
        one.resource.attributes.add(key=TENANT_ID).value.string_value = tenant
    content: bytes = request.SerializeToString()
    return content


def keyed(*keys: str) -> ExportTraceServiceRequest:
    """A request of `staging` with a span for each of these attribute keys."""
    request = spans(*(("staging", key) for key in keys))
    for place, key in zip(request.resource_spans, keys, strict=True):
        place.scope_spans[0].spans[0].attributes.add(key=key).value.string_value = "x"
    return request


@pytest.mark.parametrize(
    ("known_to_other", "answers", "rows"),
    [
        # Judged alike: the writer drops the repeat.
        ((), [1, 1], 2),
        # Judged otherwise: all that was answered as stored is stored, some of it twice.
        (("c", "b"), [1, 1], 2 + 4),
    ],
)
async def test_I1_L04_a_repeat_at_a_gateway_whose_guard_knows_other_things_loses_nothing(
    known_to_other: tuple[str, ...], answers: list[int], rows: int
) -> None:
    log = MemoryLog()
    first, other = Served(log), Served(log)
    for one in (first, other):
        # service.name, the tenant's attribute, and two more.
        one.state.tenants["staging"].limits.new_attribute_keys_per_hour = 4
    if known_to_other:
        await send(other, "http", keyed(*known_to_other), other.bearer)

    told = [
        (await send(one, "http", keyed("a", "b", "c"), one.bearer)).rejected
        for one in (first, other)
    ]

    assert told == answers
    assert await written(log) == {"staging": rows}
