"""Log records over the API: search, pages, volume, context, export."""

import csv
import io
import json
import time
from urllib.parse import quote

from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import MINUTE, SECOND, Line, logs_request

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
RANGE = f"startTime={NOW - MINUTE}&endTime={NOW + 10 * MINUTE}"


async def _store(explorer: Explorer, lines: list[Line]) -> None:
    await store(
        explorer.store, "logs", explorer.tenant, logs_request(lines), received_ns=time.time_ns()
    )


async def test_logs_are_found_by_words_severity_and_filters(explorer: Explorer) -> None:
    await _store(
        explorer,
        [
            Line(NOW, "connection timeout after 30s", 17, attributes={"code": 7}),
            Line(NOW + 1, "Timeout of checkout/v1 reached", 9, service="checkout"),
            Line(NOW + 2, "all is well: 100% done", 5),
            Line(NOW + 3, "it's \\'quoted' {p0:String}", 9, trace=3),
        ],
    )
    cases: list[tuple[str, list[int]]] = [
        ("search=timeout", [0]),
        ("search=connection+30s", [0]),
        ("search=time", []),
        ('search="n+timeout+a"', [0]),
        ("search=checkout/v1", [1]),
        (f"search={quote('100%')}", [2]),
        (f"search={quote('{p0:String}')}", [3]),
        (f"search={quote(chr(39))}", [3]),
        ("minSeverity=9", [3, 1, 0]),
        ("service=checkout", [1]),
        (f"traceId={3:032x}", [3]),
        (
            _filter({"op": "contains", "field": "body", "value": "timeout", "ignoreCase": True}),
            [1, 0],
        ),
        (_filter({"op": "eq", "field": "attributes.code", "value": 7}), [0]),
        (_filter({"op": "lt", "field": "severityNumber", "value": 9}), [2]),
        (_filter({"op": "exists", "field": "traceId"}), [3]),
    ]
    for parameters, expected in cases:
        answer = await explorer.client.get(f"/telemetry/logs?{RANGE}&{parameters}")
        assert answer.status == 200, (parameters, answer.text)
        found = [int(one["time"][-10:-1]) for one in answer.json["data"]]
        assert found == expected, parameters


def _filter(given: dict[str, object]) -> str:
    return f"filter={quote(json.dumps(given))}"


async def test_pages_neither_repeat_nor_skip_while_records_arrive(explorer: Explorer) -> None:
    # Many at one time, some of them alike in everything.
    lines = [Line(NOW + number // 10, f"line {number % 7}") for number in range(50)]
    await _store(explorer, lines)
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await explorer.client.get(f"/telemetry/logs?limit=3&{RANGE}{cursor}")
        assert answer.status == 200, answer.text
        seen += [f"{one['time'][-10:-1]} {one['body']}" for one in answer.json["data"]]
        if answer.json["nextCursor"] is None:
            break
        cursor = f"&cursor={answer.json['nextCursor']}"
        await _store(explorer, [Line(NOW + SECOND + len(seen), "new")])

    assert sorted(seen) == sorted(f"{number // 10:09d} line {number % 7}" for number in range(50))
    assert [one[:9] for one in seen] == sorted((one[:9] for one in seen), reverse=True)


async def test_S47_a_cursor_is_good_for_its_tenant_and_its_question_alone(
    explorer: Explorer,
) -> None:
    assert explorer.other is not None
    await _store(explorer, [Line(NOW + number, "x") for number in range(3)])
    page = await explorer.client.get(f"/telemetry/logs?limit=1&{RANGE}")
    cursor = page.json["nextCursor"]
    last = "B" if cursor[5] == "A" else "A"

    other_question = await explorer.client.get(f"/telemetry/logs?service=x&{RANGE}&cursor={cursor}")
    other_tenant = await explorer.other.client.get(f"/telemetry/logs?{RANGE}&cursor={cursor}")
    changed = await explorer.client.get(
        f"/telemetry/logs?limit=1&{RANGE}&cursor={cursor[:5]}{last}{cursor[6:]}"
    )
    nonsense = await explorer.client.get(f"/telemetry/logs?{RANGE}&cursor=%C3%A4")

    for refused in (other_question, other_tenant, changed, nonsense):
        assert refused.status == 400, refused.text
        assert "cursor" in refused.json["errors"][0]["field"]


async def test_the_volume_is_counted_by_severity(explorer: Explorer) -> None:
    await _store(
        explorer,
        [
            Line(NOW, "a", 17), Line(NOW + SECOND, "b", 9), Line(NOW + MINUTE, "c", 12),
            Line(NOW + MINUTE, "d", 0),
        ],
    )  # fmt: skip

    rolled = await explorer.client.get(f"/telemetry/logs/histogram?step=1m&{RANGE}")
    searched = await explorer.client.get(f"/telemetry/logs/histogram?step=1m&search=b&{RANGE}")

    assert rolled.status == 200, rolled.text
    assert [(one["total"], one["bySeverity"]) for one in rolled.json["data"]] == [
        (2, {"error": 1, "info": 1}),
        (2, {"info": 1, "unspecified": 1}),
    ]
    assert rolled.json["meta"]["source"] == "tf_log_volume_1m"
    assert [one["total"] for one in searched.json["data"]] == [1]
    assert searched.json["meta"]["source"] == "tf_logs"


async def test_the_lines_around_a_line_are_those_of_its_service(explorer: Explorer) -> None:
    lines = [Line(NOW + number // 2, f"line {number}") for number in range(9)]
    await _store(explorer, [*lines, Line(NOW + 2, "other", service="checkout")])
    page = await explorer.client.get(f"/telemetry/logs?search=4&{RANGE}")
    (line,) = page.json["data"]

    answer = await explorer.client.get(
        f"/telemetry/logs/context?time={line['time']}&id={line['id']}&service=web&before=3&after=2"
    )
    missing = await explorer.client.get(
        f"/telemetry/logs/context?time={line['time']}&id=1&service=web"
    )

    assert answer.status == 200, answer.text
    shown = [*answer.json["before"], answer.json["line"], *answer.json["after"]]
    assert answer.json["line"]["body"] == "line 4"
    assert len(shown) == len({one["body"] for one in shown}) == 6
    assert [one["time"] for one in shown] == sorted(one["time"] for one in shown)
    assert "other" not in {one["body"] for one in shown}
    assert missing.status == 404


async def test_values_of_a_field_are_counted(explorer: Explorer) -> None:
    await _store(
        explorer,
        [Line(NOW + number, "x", attributes={"host": f"h{number % 3}"}) for number in range(8)],
    )

    of_attribute = await explorer.client.get(
        f"/telemetry/logs/values?field=attributes.host&{RANGE}"
    )
    of_column = await explorer.client.get(f"/telemetry/logs/values?field=severityNumber&{RANGE}")
    unknown = await explorer.client.get(f"/telemetry/logs/values?field=password&{RANGE}")

    counts = [(one["value"], one["count"]) for one in of_attribute.json["data"]]
    assert counts == [("h0", 3), ("h1", 3), ("h2", 2)]
    assert [(one["value"], one["count"]) for one in of_column.json["data"]] == [("9", 8)]
    assert unknown.status == 400
    assert "severityNumber" in unknown.json["detail"]


async def test_E050_logs_are_taken_out_as_lines_of_JSON_or_CSV(explorer: Explorer) -> None:
    lines = [Line(NOW + number, f'=SUM("{number}")\nü') for number in range(2_500)]
    await _store(explorer, lines)

    as_json = await explorer.client.get(f"/telemetry/logs/export?{RANGE}")
    as_csv = await explorer.client.get(f"/telemetry/logs/export?format=csv&{RANGE}")

    bodies = [json.loads(line)["body"] for line in as_json.text.splitlines()]
    assert bodies == [line.body for line in reversed(lines)]
    rows = list(csv.DictReader(io.StringIO(as_csv.text, newline="")))
    assert [row["body"] for row in rows] == [f"'{body}" for body in bodies]
    assert as_csv.headers["Content-Type"].startswith("text/csv")
