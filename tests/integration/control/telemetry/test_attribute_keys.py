"""What can be filtered by: keys of items, their resources and scopes, and their values."""

import time
from typing import Any
from urllib.parse import urlencode

import pytest

from control.telemetry.queries import attributes
from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import MINUTE, Line, Span, logs_request, spans_request

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
RANGE = {"startTime": str(NOW), "endTime": str(NOW + 60 * MINUTE)}
MANY = 500


def _with_origin(request: Any, host: str) -> Any:
    """As *host* would send it, from the scope of a library."""
    for of_resource in getattr(request, "resource_spans", None) or request.resource_logs:
        of_resource.resource.attributes.add(key="host.name").value.string_value = host
        for of_scope in getattr(of_resource, "scope_spans", None) or of_resource.scope_logs:
            of_scope.scope.attributes.add(key="library.kind").value.string_value = "http"
    return request


async def _store(explorer: Explorer, count: int) -> None:
    spans = [
        Span(1, number, NOW + number, attributes={"route": "/"}) for number in range(1, count + 1)
    ]
    lines = [Line(NOW + number, "line", attributes={"user": "u"}) for number in range(count)]
    for signal, requests in (
        ("traces", (spans_request(spans[1:]), spans_request(spans[:1]))),
        ("logs", (logs_request(lines[1:]), logs_request(lines[:1]))),
    ):
        for host, request in zip(("one", "two"), requests, strict=True):
            await store(
                explorer.store,
                signal,
                explorer.tenant,
                _with_origin(request, host),
                received_ns=time.time_ns(),
            )


async def _get(explorer: Explorer, path: str, **parameters: str) -> Any:
    answer = await explorer.client.get(f"/telemetry/{path}?{urlencode(RANGE | parameters)}")
    assert answer.status == 200, answer.text
    return answer.json


@pytest.mark.parametrize(("signal", "own"), [("traces", "route"), ("logs", "user")])
@pytest.mark.parametrize("count", [2, MANY])
async def test_keys_are_listed_by_where_they_stand(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, signal: str, own: str, count: int
) -> None:
    """Of a few items from themselves, of many from a sample."""
    monkeypatch.setattr(attributes, "SAMPLED_MIN", 10)
    await _store(explorer, count)

    keys = await _get(explorer, "attributes", signal=signal)

    assert keys["data"] == [
        {"field": f"{place}.{key}", "place": place, "key": key}
        for place, key in (
            ("attributes", own),
            ("resource", "host.name"),
            ("resource", "service.name"),
            ("scope", "library.kind"),
        )
    ]
    assert keys["meta"]["source"] == (f"tf_{signal}" if count == 2 else "tf_attr_keys")


async def test_each_key_that_is_listed_has_values_and_filters(explorer: Explorer) -> None:
    await _store(explorer, 10)
    values = {
        "resource.host.name": [("one", 9), ("two", 1)],
        "resource.service.name": [("web", 10)],
        "scope.library.kind": [("http", 10)],
    }
    for signal, path in (("traces", "spans"), ("logs", "logs")):
        listed = (await _get(explorer, "attributes", signal=signal))["data"]
        assert len(listed) == 4
        for one in listed:
            counted = await _get(explorer, f"{path}/values", field=one["field"])
            found = [(value["value"], value["count"]) for value in counted["data"]]
            assert found == values.get(one["field"], [("/" if path == "spans" else "u", 10)])
            filtered = await _get(
                explorer,
                path,
                filter=f'{{"op": "eq", "field": "{one["field"]}", "value": "{found[-1][0]}"}}',
            )
            assert len(filtered["data"]) == found[-1][1]


@pytest.mark.parametrize("count", [2, MANY])
async def test_keys_of_the_day_after_are_not_listed(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A range ends before its end, also at midnight."""
    monkeypatch.setattr(attributes, "SAMPLED_MIN", 10)
    await _store(explorer, count)
    midnight = NOW // (1_440 * MINUTE) * 1_440 * MINUTE

    keys = await _get(
        explorer, "attributes", startTime=str(midnight - 1_440 * MINUTE), endTime=str(midnight)
    )

    assert keys["data"] == []
