"""The last line: what it lets through, and what it refuses."""

from dataclasses import replace

import pytest

from control.telemetry.queries.catalogue import TABLES, TRACE_TIMES
from control.telemetry.queries.checker import Refused, check
from control.telemetry.queries.sql import Rendering, Select, between, sql, text

GOOD = (
    "SELECT ServiceName AS service, count() AS items FROM telemetry.tf_traces "
    "WHERE TenantId = {tenant:String} AND (Duration > {p0:Int64}) GROUP BY service"
)


def test_what_the_generator_makes_is_let_through() -> None:
    select = Select(
        columns={"service": "ServiceName", "items": "count()"},
        source=Select(
            columns={"ServiceName": "ServiceName"},
            source="tf_logs",
            where=sql(between("Timestamp", 1, 2), " AND Body = ", text("x' OR 1=1 --")),
        ),
        group_by=["service"],
    )
    rendering = Rendering("telemetry", "acme")

    check(rendering.text_of(select), "telemetry")

    assert rendering.parameters == {"tenant": "acme", "p0": 1, "p1": 2, "p2": "x' OR 1=1 --"}
    check(GOOD, "telemetry")


def test_several_sources_each_have_their_tenant() -> None:
    select = Select(columns={"items": "count()"}, source="tf_traces")
    both = Select(columns={"items": "sum(items)"}, source=(select, select))
    found = Rendering("telemetry", "acme").text_of(both)

    check(found, "telemetry")

    tenant = " WHERE TenantId = {tenant:String}"
    assert found.count(tenant) == 2
    for bad in (
        found.replace(tenant, "", 1),
        found[::-1].replace(tenant[::-1], "", 1)[::-1],
        found.replace("UNION ALL SELECT", "UNION DISTINCT SELECT"),
        found.replace("UNION ALL SELECT", "UNION ALL (SELECT"),
    ):
        with pytest.raises(Refused):
            check(bad, "telemetry")


TIMES = (
    "SELECT min(Start) AS first FROM telemetry.tf_trace_ts "
    "WHERE H = cityHash64({tenant:String}, unhex({p0:String}))"
)


def test_the_times_of_a_trace_are_found_by_a_hash_with_the_tenant() -> None:
    select = Select(columns={"first": "min(Start)"}, source=TRACE_TIMES, where=sql(text("0123")))
    assert Rendering("telemetry", "acme").text_of(select) == TIMES
    check(TIMES, "telemetry")


FIRST = GOOD.replace(" WHERE", " PREWHERE (has(`SpanAttributes.values`, {p1:String})) WHERE")


def test_what_is_looked_at_first_stands_before_the_tenant_and_only_leaves_out() -> None:
    rare = sql(text("x"))._replace(first=(sql("has(`LogAttributes.values`, ", text("x"), ")"),))
    select = Select(columns={"items": "count()"}, source="tf_logs", where=rare, looks_first=True)

    found = Rendering("telemetry", "acme").text_of(select)

    assert " PREWHERE (has(`LogAttributes.values`, {p1:String})) WHERE TenantId = {ten" in found
    check(found, "telemetry")
    check(FIRST, "telemetry")
    assert "PREWHERE" not in Rendering("telemetry", "acme").text_of(
        replace(select, looks_first=False)
    )


@pytest.mark.parametrize(
    "bad",
    [
        FIRST.replace("TenantId = {tenant:String} AND ", ""),
        FIRST.replace("WHERE TenantId = {tenant:String} AND (", "OR ("),
        FIRST.replace("WHERE TenantId", "OR 1 WHERE TenantId"),
        FIRST.replace("PREWHERE (has(`SpanAttributes.values`, {p1:String}))", "PREWHERE 1"),
        FIRST.replace("has(", "dictHas("),
        FIRST.replace("SpanAttributes.values", "SpanAttributes.size0"),
        FIRST.replace("has(`SpanAttributes.values`, {p1:String})", "1 IN system.one"),
        FIRST.replace("has(`SpanAttributes.values`", "has((SELECT name FROM system.users)"),
        GOOD.replace("(Duration", "(PREWHERE Duration"),
        GOOD.replace(" GROUP", " PREWHERE (1) GROUP"),
        TIMES.replace("{tenant:String}", "{p1:String}"),
        TIMES.replace("{tenant:String}, ", ""),
        TIMES.replace(" WHERE H =", " WHERE H !="),
        TIMES.replace("unhex({p0:String})", "unhex({p0:String}) + 1"),
        f"{TIMES} OR 1 = 1",
        GOOD.replace("telemetry.tf_traces", "telemetry.tf_trace_ts"),
        TIMES.replace("telemetry.tf_trace_ts", "telemetry.tf_traces"),
        GOOD.replace("TenantId = {tenant:String} AND ", ""),
        GOOD.replace("TenantId = {tenant:String}", "TenantId != {tenant:String}"),
        GOOD.replace("TenantId = {tenant:String}", "TenantId = {p1:String}"),
        GOOD.replace("TenantId = {tenant:String}", "1 = 1 OR TenantId = {tenant:String}"),
        GOOD.replace(") GROUP", ") OR (1 = 1) GROUP"),
        GOOD.replace("AND (", "OR ("),
        GOOD.replace("telemetry.tf_traces", "system.users"),
        GOOD.replace("telemetry.tf_traces", "telemetry.tf_ledger"),
        GOOD.replace("telemetry.tf_traces", "telemetry.otel_traces"),
        GOOD.replace("telemetry.tf_traces", "other.tf_traces"),
        GOOD.replace("telemetry.tf_traces", "telemetry.tf_logs, telemetry.tf_traces"),
        GOOD.replace("telemetry.tf_traces", "merge('telemetry', '^tf')"),
        GOOD.replace("telemetry.tf_traces", "url('http://x', CSV)"),
        GOOD.replace("Duration > {p0:Int64}", "ServiceName IN system.users"),
        GOOD.replace("Duration > {p0:Int64}", "ServiceName IN (SELECT name FROM system.users)"),
        GOOD.replace("count()", "file('/etc/passwd')"),
        GOOD.replace("count()", "dictGet('d', 'a', 1)"),
        GOOD.replace("count()", "sleep(3)"),
        GOOD.replace("count()", "sleepEachRow(1)"),
        GOOD.replace("count()", "catboostEvaluate('m', 1)"),
        GOOD.replace("count()", "demangle(addressToSymbol(1))"),
        GOOD.replace("count()", "getSetting('x')"),
        GOOD.replace("count()", "`count`()"),
        GOOD.replace("count()", "'a secret text'"),
        f"{GOOD} SETTINGS max_execution_time = 0",
        f"{GOOD} INTO OUTFILE 'x'",
        f"{GOOD} FORMAT Native",
        f"{GOOD} UNION ALL {GOOD}",
        f"{GOOD}; DROP TABLE telemetry.tf_traces",
        f"{GOOD} -- x",
        f"{GOOD} /* x */",
        f"EXPLAIN {GOOD}",
        f"INSERT INTO telemetry.tf_traces {GOOD}",
        f"WITH 1 AS x {GOOD}",
        GOOD.replace("{p0:Int64}", "{p0:Identifier}"),
        GOOD.replace("service,", "service,\n"),
        GOOD.replace("'", "\u2019") + "\u2019",
        "DROP TABLE telemetry.tf_traces",
        "",
    ],
)
def test_S44_everything_else_is_refused(bad: str) -> None:
    with pytest.raises(Refused):
        check(bad, "telemetry")


def test_S33_a_generator_that_forgets_the_tenant_is_caught_for_every_table() -> None:
    class Forgetful(Rendering):
        def _table(self, table: str, *_rest: object) -> str:
            return f"{self.database}.{table}"

    for table in TABLES:
        # One table is asked for the times of a trace, by a hash of tenant and trace.
        where = sql(text("00")) if table == TRACE_TIMES else None
        select = Select(columns={"items": "count()"}, source=table, where=where)
        nested = Select(columns={"items": "sum(items)"}, source=select)
        for one in (select, nested, replace(nested, limit=1)):
            check(Rendering("telemetry", "acme").text_of(one), "telemetry")
            with pytest.raises(Refused, match="without its tenant"):
                check(Forgetful("telemetry", "acme").text_of(one), "telemetry")


def test_a_table_that_is_not_in_the_catalogue_has_no_text() -> None:
    with pytest.raises(ValueError, match="catalogue"):
        Rendering("telemetry", "acme").text_of(Select(columns={"a": "1"}, source="tf_ledger"))
