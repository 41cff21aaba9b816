"""Patterns of log records, over the API and against what people would call alike."""

import time
from typing import Any
from uuid import uuid4

import pytest

from control.telemetry.queries import patterns
from control.telemetry.queries.engine import Engine, Reading
from control.telemetry.queries.patterns import PatternsQuery, log_patterns
from shared.clickhouse.client import ClickHouse
from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import MINUTE, Line, logs_request

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
# Real lines of nginx, PostgreSQL, Kubernetes, Java, Go and Python, and ours; each pair is alike.
ALIKE = (
    (
        '10.0.3.17 - - [28/Nov/2026:20:14:49 +0000] "GET /api/v2/users/17 HTTP/1.1" 200 1532',
        '192.168.1.5 - - [29/Nov/2026:01:02:03 +0000] "POST /login HTTP/2.0" 404 9',
        "<ip> - - [<number>/Nov/<number>:<time> +<number>] <text> <number> <number>",
    ),
    (
        "duration: 1532.118 ms  statement: SELECT 1",
        "duration: 0.4 ms  statement: SELECT 22",
        "duration: <number> ms  statement: SELECT <number>",
    ),
    (
        'ERROR:  duplicate key value violates unique constraint "users_pkey"',
        'ERROR:  duplicate key value violates unique constraint "orders_pkey"',
        "ERROR:  duplicate key value violates unique constraint <text>",
    ),
    (
        "Killing container with id docker://checkout:Need to kill Pod checkout-7d9f8b6c5-x2x4z",
        "Killing container with id docker://web:Need to kill Pod checkout-5c6d7e8f9-q8w7e",
        "Killing container with id <url> to kill Pod checkout-<hex>-<id>",
    ),
    (
        "2026-11-28T20:14:49.123Z order 4711 of 6f9619ff-8b86-d011-b42d-00c04fc964ff took 12ms",
        "2026-11-29 01:02:03 order 9 of 00000000-0000-0000-0000-000000000001 took 1.5ms",
        "<time> order <number> of <id> took <number>ms",
    ),
    (
        "panic at 0xc000123456 in /usr/local/go/src/runtime/panic.go:884",
        "panic at 0xdeadbeef in /home/app/main.go:12",
        "panic at <hex> in <path>",
    ),
    (
        '{"level":"info","user": "ada@example.com","n":3,"ok":true}',
        '{"level":"warn","user": "eve@example.com","n":44,"ok":true}',
        "{level:<text>,user: <text>,n:<number>,ok:true}",
    ),
    (
        "mail to ada@example.com failed: can't connect to https://mx1.example.com:25/x?y=1",
        "mail to b.c+d@mail.example.org failed: can't connect to smtp://10.0.0.1",
        "mail to <email> failed: can't connect to <url>",
    ),
    (
        "trace 0af7651916cd43dd8448eb211c80319c sampled",
        "trace b7ad6b71692033310af7651916cd43dd sampled",
        "trace <hex> sampled",
    ),
    (
        "café ☕ n° 12 didn't start, wasn't ready",
        "café ☕ n° 7 didn't start, wasn't ready",
        "café ☕ n° <number> didn't start, wasn't ready",
    ),
    ("", "", ""),
)


async def _patterns(engine: Engine, tenant: str, **fields: Any) -> patterns.PatternList:
    query = PatternsQuery.model_validate(
        {"startTime": str(NOW - MINUTE), "endTime": str(NOW + MINUTE), **fields}
    )
    return await log_patterns(Reading(engine, tenant), query)


async def test_lines_that_people_call_alike_are_one_pattern(
    engine: Engine, telemetry_store: ClickHouse
) -> None:
    tenant = uuid4().hex
    lines = [
        Line(NOW + number, body)
        for number, body in enumerate(body for *bodies, _ in ALIKE for body in bodies)
    ]
    await store(telemetry_store, "logs", tenant, logs_request(lines), received_ns=time.time_ns())

    found = await _patterns(engine, tenant)

    assert {one.pattern: one.count for one in found.data} == {one: 2 for *_, one in ALIKE}


async def test_a_pattern_tells_how_many_since_when_how_bad_and_shows_its_newest(
    explorer: Explorer,
) -> None:
    lines = [Line(NOW + number, f"took {number} ms", severity=9) for number in range(6)]
    lines += [Line(NOW + 10, "took 99 ms", severity=17, service="api", attributes={"k": "v"})]
    lines += [Line(NOW + 11, "done", service="api")]
    now = time.time_ns()
    await store(explorer.store, "logs", explorer.tenant, logs_request(lines), received_ns=now)
    path = f"/telemetry/logs/patterns?startTime={NOW}&endTime={NOW + MINUTE}"

    answer = (await explorer.client.get(path)).json
    of_api = (await explorer.client.get(f"{path}&service=api&minSeverity=17")).json
    first = (await explorer.client.get(f"{path}&limit=1")).json
    nothing = (await explorer.client.get(f"{path}&search=nowhere")).json

    took, done = answer["data"]
    assert (answer["total"], answer["sampled"]) == (8, 8)
    assert (took["pattern"], took["count"], took["estimatedCount"]) == ("took <number> ms", 7, 7)
    assert took["share"] == pytest.approx(7 / 8)
    assert took["bySeverity"] == {"info": 6, "error": 1}
    assert took["sample"]["body"] == "took 99 ms"
    assert took["sample"]["attributes"] == {"k": "v"}
    assert (took["firstTime"][-4:], took["lastTime"][-4:]) == ("000Z", "010Z")
    assert done["pattern"] == "done"
    assert [one["count"] for one in of_api["data"]] == [1]
    assert (len(first["data"]), first["sampled"]) == (1, 8)
    assert (nothing["data"], nothing["total"], nothing["sampled"]) == ([], 0, 0)


async def test_of_many_records_a_sample_is_looked_at_and_the_answer_says_so(
    engine: Engine, telemetry_store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = uuid4().hex
    lines = [Line(NOW + n, f"often {n}" if n % 4 else f"seldom {n}") for n in range(4_000)]
    await store(telemetry_store, "logs", tenant, logs_request(lines), received_ns=time.time_ns())
    monkeypatch.setattr(patterns, "SAMPLED_MAX", 1_000)

    found = await _patterns(engine, tenant)
    again = await _patterns(engine, tenant)

    often, seldom = found.data
    assert found.data == again.data
    assert found.total == 4_000
    assert 800 < found.sampled == often.count + seldom.count < 1_200
    assert often.pattern == "often <number>"
    assert often.estimated_count == pytest.approx(3_000, rel=0.1)
    assert often.estimated_count == round(often.count / found.sampled * 4_000)


async def test_a_long_body_is_cut_before_it_is_looked_at(
    engine: Engine, telemetry_store: ClickHouse
) -> None:
    tenant = uuid4().hex
    bodies = ["é" * 1_000 + tail for tail in ("", "x", "1 2 3")]
    lines = [Line(NOW + number, body) for number, body in enumerate(bodies)]
    await store(telemetry_store, "logs", tenant, logs_request(lines), received_ns=time.time_ns())

    (found,) = (await _patterns(engine, tenant)).data

    assert (found.pattern, found.count) == ("é" * 1_000, 3)
    assert found.sample.body == bodies[2]
