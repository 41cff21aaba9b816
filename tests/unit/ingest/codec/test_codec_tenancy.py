"""Resources that say whose they are: taken by their own tenant alone."""

from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import Malformed
from ingest.codec.reference.wire import decoded
from ingest.codec.resources import resources_of
from tests.unit.ingest.codec.strategies import REQUESTS, requests
from tests.unit.ingest.codec.twins import NOW_NS, SPAN_ID, TRACE_ID, stored

SIGNALS = tuple(REQUESTS)
TENANT_ID = "telemetryflow.tenant.id"
WORKSPACE_ID = "telemetryflow.workspace.id"


def request_of(signal: str, *resources: dict[str, Any]) -> Any:
    """A request with two items of each of these resources."""
    request: Any = REQUESTS[signal]()
    for attributes in resources:
        if signal == "traces":
            place = request.resource_spans.add()
            for _ in range(2):
                place.scope_spans.add().spans.add(
                    trace_id=TRACE_ID, span_id=SPAN_ID, start_time_unix_nano=NOW_NS
                )
        elif signal == "logs":
            place = request.resource_logs.add()
            place.scope_logs.add().log_records.add(time_unix_nano=NOW_NS)
            place.scope_logs[0].log_records.add(time_unix_nano=NOW_NS)
        else:
            place = request.resource_metrics.add()
            metric = place.scope_metrics.add().metrics.add(name="load")
            for _ in range(2):
                metric.gauge.data_points.add(time_unix_nano=NOW_NS, as_double=1)
        for key, value in attributes.items():
            place.resource.attributes.add(key=key).value.string_value = value
    return request


@pytest.mark.parametrize("signal", SIGNALS)
def test_I14_items_of_a_resource_that_names_another_tenant_are_rejected(signal: str) -> None:
    request = request_of(
        signal,
        {"service.name": "none"},
        {TENANT_ID: "acme", "service.name": "own"},
        {TENANT_ID: "globex", "service.name": "other"},
        {TENANT_ID: "", "service.name": "empty"},
    )

    told = stored(signal, request)

    assert told.appended.accepted == 6
    assert told.appended.rejected == {"tenant_contradiction": 2}
    assert {row["ServiceName"] for row in told.rows} == {"none", "own", "empty"}
    assert {row["TenantId"] for row in told.rows} == {"acme"}


@pytest.mark.parametrize(
    "named",
    ["acm", "acme ", "Acme", "acme\x00", "globex", "x" * 300, "ä"],
)
def test_I14_another_tenant_is_whatever_is_not_the_same_text(named: str) -> None:
    told = stored("logs", request_of("logs", {TENANT_ID: named}))

    assert told.appended.rejected == {"tenant_contradiction": 2}


def test_I14_of_a_tenant_that_is_named_twice_the_last_one_counts() -> None:
    request = request_of("logs", {TENANT_ID: "globex"}, {TENANT_ID: "acme"})
    for number, name in enumerate(("acme", "globex")):
        attributes = request.resource_logs[number].resource.attributes
        attributes.add(key=TENANT_ID).value.string_value = name

    told = stored("logs", request)

    assert (told.appended.accepted, told.appended.rejected) == (2, {"tenant_contradiction": 2})


def test_I14_a_tenant_that_is_a_number_is_compared_as_it_is_written() -> None:
    request = request_of("logs", {}, {})
    for number in range(2):
        request.resource_logs[number].resource.attributes.add(key=TENANT_ID).value.int_value = (
            7 + number
        )

    assert stored("logs", request, tenant="7").appended.accepted == 2


def test_I14_a_workspace_is_compared_where_it_is_known() -> None:
    request = request_of("logs", {WORKSPACE_ID: "w-1"}, {WORKSPACE_ID: "w-2"}, {WORKSPACE_ID: ""})

    assert stored("logs", request).appended.accepted == 6
    assert stored("logs", request, workspace="w-1").appended.rejected == {"tenant_contradiction": 2}


def test_I14_attributes_of_items_name_no_tenant() -> None:
    request = request_of("logs", {})
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    record.attributes.add(key=TENANT_ID).value.string_value = "globex"
    scope = request.resource_logs[0].scope_logs[0].scope
    scope.attributes.add(key=TENANT_ID).value.string_value = "globex"

    assert stored("logs", request).appended.accepted == 2


@pytest.mark.parametrize("signal", SIGNALS)
def test_I14_without_a_tenant_everything_is_rejected_with_its_reason(signal: str) -> None:
    request = request_of(signal, {}, {TENANT_ID: "globex"}, {TENANT_ID: ""})

    told = stored(signal, request, tenant="")

    assert told.appended.rejected == {"tenant_missing": 4, "tenant_contradiction": 2}
    assert not told.rows


@pytest.mark.parametrize("signal", SIGNALS)
def test_resources_of_a_request_are_found_with_the_tenants_that_they_name(signal: str) -> None:
    @given(requests(signal))
    def check(message: Message) -> None:
        body = message.SerializeToString()
        whole = decoded(signal, body).message
        [(_field, expected)] = whole.ListFields() or [(None, [])]

        found = resources_of(signal, body)

        assert [tenant for tenant, _first, _end in found] == [_named(one) for one in expected]
        for (_tenant, first, end), one in zip(found, expected, strict=True):
            [(_field, [alone])] = decoded(signal, body[first:end]).message.ListFields()
            assert alone == one
        assert b"".join(body[first:end] for _tenant, first, end in found) == body

    check()


def _named(of_resource: Any) -> str:
    pairs = {pair.key: pair.value for pair in of_resource.resource.attributes}
    return str(pairs[TENANT_ID].string_value) if TENANT_ID in pairs else ""


@pytest.mark.parametrize("signal", SIGNALS)
@given(junk=st.binary(max_size=40))
def test_resources_are_found_in_whatever_is_a_request_and_in_nothing_else(
    signal: str, junk: bytes
) -> None:
    body = request_of(signal, {TENANT_ID: "acme"}).SerializeToString() + junk
    try:
        decoded(signal, body)
    except Malformed:
        with pytest.raises(Malformed):
            resources_of(signal, body)
    else:
        assert resources_of(signal, body)[0][0] == "acme"


def test_resources_pass_over_what_is_none_and_merge_what_belongs_together() -> None:
    def field(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    def naming(tenant: bytes) -> bytes:
        pair = field(1, TENANT_ID.encode()) + field(2, field(1, tenant))
        return field(1, field(1, pair))

    two_in_one = field(1, naming(b"acme") + field(3, b"url") + naming(b"globex"))
    body = b"\x10\x07" + two_in_one + field(2, b"unknown") + field(1, naming(b"acm\xff"))

    found = resources_of("logs", body)

    assert [tenant for tenant, _first, _end in found] == ["globex", "acm\ufffd"]
    assert body[found[0][1] : found[0][2]] == two_in_one
    assert resources_of("logs", b"") == []
