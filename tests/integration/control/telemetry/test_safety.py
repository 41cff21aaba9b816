"""Tenants apart, hostile texts, limits, and an end to what nobody waits for."""

import asyncio
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import TypeAdapter
from yarl import URL

from control.telemetry.queries import logs, metric_catalogue, patterns, services, traces
from control.telemetry.queries.aggregate import answer_question
from control.telemetry.queries.answers import RangeQuery
from control.telemetry.queries.attributes import KeysQuery, SpanValuesQuery, list_keys, span_values
from control.telemetry.queries.catalogue import LOGS, TRACES
from control.telemetry.queries.checker import check
from control.telemetry.queries.engine import Engine, Reading
from control.telemetry.queries.filters import Filter, condition_of
from control.telemetry.queries.model import AnyQuestion
from control.telemetry.queries.sql import Join, Rendering, Select, all_of
from shared.clickhouse.client import ClickHouse
from shared.errors import Invalid
from tests.control.telemetry import DATABASE, Explorer, note_all_series, store
from tests.control.telemetry_data import (
    MINUTE,
    MS,
    Distribution,
    Line,
    Point,
    Span,
    histograms_request,
    logs_request,
    points_request,
    spans_request,
    summaries_request,
)

NOW = time.time_ns() // MINUTE * MINUTE - 30 * MINUTE
RANGE = {"startTime": str(NOW - 60 * MINUTE), "endTime": str(NOW + 10 * MINUTE)}
ABSOLUTE = {"type": "absolute", **RANGE}
HOSTILE = (
    *("'", "\\", "\\'", '"', "`", "a' OR 1=1 --", "x') OR (1=1", "'; DROP TABLE tf_logs; --"),
    *("{tenant:String}", "{p0:String}", "{x:Identifier}", "%27", "%s", "{}", "{0}", "$$x$$"),
    *("\n", "\t", "\r\n", "/* */", "-- ", "# ", "\u2019 OR 1=1", "\\N", "NULL", "\x7f", "a\\"),
    *("x' OR 1=1 --", "`a`.`b`", "') UNION ALL SELECT 1 --", "\U0001f600", "e\u0301", "[1,2]", "ü"),
    *("', '", "['a']", "\\x27", "\\'; --", "SETTINGS readonly=0", "a,b", "a:b", "&database=x"),
)


def _questions() -> list[Any]:
    """Every way to ask, as functions of a reading."""
    ranged = RangeQuery.model_validate(RANGE)
    adapter: TypeAdapter[Any] = TypeAdapter(AnyQuestion)
    bodies = [
        {"source": source, "aggregations": [{"op": "count"}], "groupBy": ["service"]}
        for source in ("traces", "logs")
    ]
    bodies += [{"source": "red", "groupBy": ["service"]}]
    bodies += [
        {"source": "metric", "metric": "m", "metricType": kind, "aggregation": aggregation}
        for kind, aggregation in (
            ("gauge", "avg"), ("gauge", "quantile"), ("sum", "rate"), ("histogram", "count"),
            ("histogram", "quantile"), ("exponential_histogram", "quantile"), ("summary", "sum"),
        )
    ]  # fmt: skip
    asked = [adapter.validate_python({"range": ABSOLUTE, "step": "1m", **body}) for body in bodies]
    filtered = {**RANGE, "service": "web"}
    return [
        lambda reading: services.list_services(reading, ranged),
        lambda reading: services.list_dependencies(reading, ranged),
        lambda reading: services.list_operations(
            reading, services.OperationQuery.model_validate(RANGE)
        ),
        lambda reading: services.red_series(reading, services.RedQuery.model_validate(filtered)),
        lambda reading: traces.list_spans(reading, traces.SpanFilter.model_validate(RANGE)),
        lambda reading: traces.list_traces(reading, traces.SpanFilter.model_validate(RANGE)),
        lambda reading: traces.heatmap(reading, traces.HeatmapQuery.model_validate(RANGE)),
        lambda reading: logs.search_logs(reading, logs.LogFilter.model_validate(RANGE)),
        lambda reading: logs.log_volume(reading, logs.VolumeQuery.model_validate(RANGE)),
        lambda reading: logs.log_values(
            reading, logs.ValuesQuery.model_validate({**RANGE, "field": "body"})
        ),
        lambda reading: patterns.log_patterns(
            reading, patterns.PatternsQuery.model_validate(RANGE)
        ),
        lambda reading: list_keys(reading, KeysQuery.model_validate(RANGE)),
        lambda reading: span_values(
            reading, SpanValuesQuery.model_validate({**RANGE, "field": "operation"})
        ),
        *_of_metrics(),
        *(lambda reading, one=one: answer_question(reading, one) for one in asked),
    ]


def _of_metrics() -> list[Any]:
    """From the points, and from the catalogues."""
    metric = {**RANGE, "metricName": "m", "metricType": "gauge"}
    return [
        lambda reading: metric_catalogue.list_names(
            reading, metric_catalogue.NamesQuery.model_validate(RANGE)
        ),
        lambda reading: metric_catalogue.list_points(
            reading, metric_catalogue.PointsQuery.model_validate(metric)
        ),
        lambda reading: metric_catalogue.list_labels(
            reading, metric_catalogue.OfMetric.model_validate(metric)
        ),
        lambda reading: metric_catalogue.list_labels(
            reading, metric_catalogue.OfMetric.model_validate({**RANGE, "metricName": "m"})
        ),
        lambda reading: metric_catalogue.label_values(
            reading,
            metric_catalogue.LabelValuesQuery.model_validate(
                {**RANGE, "metricName": "m", "field": "attributes.zone"}
            ),
        ),
        lambda reading: metric_catalogue.list_exemplars(
            reading, metric_catalogue.OfMetric.model_validate(metric)
        ),
    ]


async def _fill(client: ClickHouse, tenant: str) -> None:
    """The same times and ids for each tenant; names and contents are the tenant's own."""
    spans = [
        Span(1, number, NOW + number, MS, parent=number - 1, service=f"web-{tenant}",
             name=f"op-{tenant}", attributes={f"key-{tenant}": "v"})
        for number in range(1, 40)
    ]  # fmt: skip
    lines = [Line(NOW + number, f"body-{tenant}", service=f"web-{tenant}", trace=1)
             for number in range(5)]  # fmt: skip
    points = [Point(NOW + number, 1.0, zone=f"zone-{tenant}") for number in range(5)]
    recorded = [Distribution(NOW, NOW - MINUTE, [1.0, 2.0])]
    bounded = [replace(one, bounds=[1.0]) for one in recorded]
    for signal, request in (
        ("traces", spans_request(spans)),
        ("logs", logs_request(lines)),
        ("metrics", points_request("m", points)),
        ("metrics", points_request("m", points, temporality=1)),
        ("metrics", histograms_request("m", recorded, temporality=1)),
        ("metrics", histograms_request("m", bounded, temporality=1)),
        ("metrics", summaries_request("m", recorded)),
    ):
        await store(client, signal, tenant, request, received_ns=time.time_ns())
    await note_all_series(client, NOW - 60 * MINUTE, NOW + MINUTE)


async def test_S33_no_question_sees_anything_of_another_tenant(
    engine: Engine, telemetry_store: ClickHouse
) -> None:
    tenants = [uuid4().hex for _ in range(3)]
    for tenant in tenants:
        await _fill(telemetry_store, tenant)
    for tenant in tenants:
        seen = 0
        for ask in _questions():
            answer = (await ask(Reading(engine, tenant))).model_dump_json()
            assert not any(other in answer for other in tenants if other != tenant), answer
            seen += tenant in answer
        trace = await traces.get_trace(
            Reading(engine, tenant), f"{1:032x}", traces.TraceQuery.model_validate({})
        )
        assert trace.services == {f"web-{tenant}": 39}
        assert seen > 10


async def test_S33_every_question_reads_the_tables_that_its_text_names_by_tenant(
    engine: Engine, telemetry_store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own parser finds as many tables as there are tenants' predicates."""
    found: list[tuple[str, Any]] = []

    async def read(sql: str, parameters: Any, *_settings: Any, **_options: Any) -> Any:
        found.append((sql, parameters))
        raise Invalid("only the text is wanted")

    monkeypatch.setattr(telemetry_store, "read", read)
    for ask in _questions():
        with pytest.raises(Invalid):
            await ask(Reading(engine, "acme"))
    monkeypatch.undo()
    assert len(found) >= 26
    for text, parameters in found:
        tree = await telemetry_store.query(f"EXPLAIN AST {text}", parameters)
        tables = [row[0] for row in tree if "TableIdentifier" in row[0]]
        assert len(tables) == text.count("WHERE TenantId = {tenant:String}") > 0, text


async def test_S41_S42_S43_a_text_is_only_ever_a_text(
    engine: Engine, telemetry_store: ClickHouse
) -> None:
    tenant = uuid4().hex
    reading = Reading(engine, tenant)
    lines = [
        Line(NOW + number, hostile, attributes={hostile: hostile})
        for number, hostile in enumerate(HOSTILE)
    ]
    spans = [
        Span(1, number, NOW, name=hostile, attributes={hostile: hostile})
        for number, hostile in enumerate(HOSTILE, start=1)
    ]
    await store(telemetry_store, "logs", tenant, logs_request(lines), received_ns=time.time_ns())
    await store(telemetry_store, "traces", tenant, spans_request(spans), received_ns=time.time_ns())
    for hostile in HOSTILE:
        for source, column, field in ((LOGS, "Body", "body"), (TRACES, "SpanName", "operation")):
            conditions = [condition_of(source, one) for one in _hostile_filters(hostile, field)]
            select = Select(
                columns={"found": column}, source=source.table, where=all_of(conditions)
            )
            assert [row["found"] for row in await reading.rows(select)] == [hostile]
    keys = [f"attributes.{hostile}" for hostile in HOSTILE]
    for key, hostile in zip(keys, HOSTILE, strict=True):
        grouped = await answer_question(reading, _unique(key))
        assert {one.labels[key] for one in grouped.series} == {hostile, ""}


def _hostile_filters(hostile: str, field: str) -> list[Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(Filter)
    key = f"attributes.{hostile}"
    return [
        adapter.validate_python(given)
        for given in (
            {"op": "eq", "field": field, "value": hostile},
            {"op": "in", "field": field, "values": [hostile, "x"]},
            {"op": "contains", "field": field, "value": hostile},
            {"op": "eq", "field": key, "value": hostile},
            {"op": "in", "field": key, "values": [hostile, "x"]},
            {"op": "exists", "field": key},
        )
    ]


def _unique(key: str) -> Any:
    return TypeAdapter[Any](AnyQuestion).validate_python(
        {
            "source": "logs",
            "range": ABSOLUTE,
            "aggregations": [{"op": "unique", "field": key}],
            "groupBy": [key],
        }
    )


async def test_S46_what_reads_too_much_is_refused_before_it_reads_with_numbers(
    telemetry_store: ClickHouse, engine: Engine
) -> None:
    tenant = uuid4().hex
    await _fill(telemetry_store, tenant)
    small = Engine(
        telemetry_store,
        database=DATABASE,
        cache=engine.cache,
        cursors=engine.cursors,
        limits={"max_rows_to_read": "3"},
    )

    with pytest.raises(Invalid, match=r"too many rows: narrow .*\(.*, at most 3\.00 rows"):
        await logs.log_values(
            Reading(small, tenant), logs.ValuesQuery.model_validate({**RANGE, "field": "body"})
        )
    with pytest.raises(Invalid, match="regular expression"):
        await logs.search_logs(
            Reading(engine, tenant),
            logs.LogFilter.model_validate(
                {**RANGE, "filter": '{"op": "regex", "field": "body", "value": "(("}'}
            ),
        )


_MANY = Select(
    columns={"k": "toInt64(1)", "x": "arrayJoin(range(100000))"}, source="tf_logs", limit=400_000
)
SLOW = Select(columns={"found": "count()"}, source=_MANY, joins=[Join(_MANY, "p", "s.k = p.k")])


async def _running(client: ClickHouse) -> int:
    rows = await client.query(
        "SELECT count() FROM system.processes WHERE query LIKE '%arrayJoin(range(100000))%' "
        "AND query NOT LIKE '%system.processes%'"
    )
    return int(rows[0][0])


async def test_S46_a_query_ends_in_the_engine_when_its_caller_leaves(
    engine: Engine, telemetry_store: ClickHouse
) -> None:
    tenant = uuid4().hex
    await _fill(telemetry_store, tenant)
    check(Rendering(DATABASE, tenant).text_of(SLOW), DATABASE)
    is_gone = False
    reading = Reading(engine, tenant, is_abandoned=lambda: is_gone)
    asking = asyncio.create_task(reading.rows(SLOW))
    async with asyncio.timeout(20):
        while not await _running(telemetry_store):
            assert not asking.done(), asking
            await asyncio.sleep(0.02)

        is_gone = True
        with pytest.raises(asyncio.CancelledError):
            await asking
        while await _running(telemetry_store):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_S46_when_a_client_hangs_up_its_query_ends_in_the_engine(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Through a real socket, that is closed (FIN) or torn down (RST)."""

    async def long_question(reading: Reading, _query: Any) -> None:
        await reading.rows(SLOW)

    monkeypatch.setattr(logs, "log_values", long_question)
    await _fill(explorer.store, explorer.tenant)
    url = URL(explorer.client.url)
    _reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        b"GET /api/v2/telemetry/logs/values?field=body HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer %s\r\n\r\n" % str(explorer.client.token).encode()
    )
    async with asyncio.timeout(20):
        while not await _running(explorer.store):
            await asyncio.sleep(0.02)

        if end == "close":
            writer.close()
        else:
            writer.transport.abort()

        while await _running(explorer.store):
            await asyncio.sleep(0.02)
