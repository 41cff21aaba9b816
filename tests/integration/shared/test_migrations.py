"""The migrations on an empty engine, against what the codec sends and what tools expect."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from ingest.codec.tables import TABLES
from shared.clickhouse import migrate
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator, expected_columns, migrations
from shared.clickhouse.views import tenant_database, views_of_tenant
from shared.errors import Conflict, Invalid
from tests.integration.shared.embedded_server import EmbeddedServer

TRACE = "0123456789abcdef0123456789abcdef"
WAREHOUSE = "warehouse"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("migrations") / "data") as server:
        asyncio.run(_migrate(server))
        yield server


async def _connect(server: EmbeddedServer) -> ClickHouse:
    return await ClickHouse.connect(ClickHouseAddress("127.0.0.1", server.port, "default", ""))


async def _migrate(server: EmbeddedServer) -> None:
    async with await _connect(server) as client:
        await _migrator(client).migrate()


def _migrator(client: ClickHouse, database: str = "telemetry") -> Migrator:
    return Migrator(client.command, client.query, database=database)


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[ClickHouse]:
    async with await _connect(server) as client:
        yield client


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_exactly_the_columns_that_the_codec_sends(
    server: EmbeddedServer, table: str
) -> None:
    described = server.rows(f"DESCRIBE TABLE telemetry.{table}")
    assert [(row["name"], row["type"]) for row in described] == list(TABLES[table])


async def test_every_table_keeps_a_deduplication_window(client: ClickHouse) -> None:
    assert await _migrator(client).problems() == []


async def test_a_table_that_lost_its_window_or_is_missing_is_reported(
    server: EmbeddedServer, client: ClickHouse
) -> None:
    migrator = _migrator(client, WAREHOUSE)
    await migrator.migrate()
    await client.command(
        f"ALTER TABLE {WAREHOUSE}.tf_logs MODIFY SETTING non_replicated_deduplication_window = 0"
    )
    await client.command(f"DROP TABLE {WAREHOUSE}.tf_metric_series SYNC")
    found = {problem.table: problem.text for problem in await migrator.problems()}
    server.run(f"DROP DATABASE {WAREHOUSE} SYNC")
    assert set(found) == {"tf_logs", "tf_metric_series"}
    assert "deduplication window" in found["tf_logs"]
    assert "missing" in found["tf_metric_series"]


async def test_a_column_that_drifted_is_reported(
    server: EmbeddedServer, client: ClickHouse
) -> None:
    migrator = _migrator(client, "drifted")
    await migrator.migrate()
    await client.command("ALTER TABLE drifted.tf_logs MODIFY COLUMN SeverityNumber UInt16")
    await client.command("ALTER TABLE drifted.tf_traces ADD COLUMN Extra String DEFAULT ''")
    await client.command("ALTER TABLE drifted.tf_ops_5m DROP COLUMN DurationMax")
    found = {problem.table: problem.text for problem in await migrator.problems()}
    server.run("DROP DATABASE drifted SYNC")
    assert set(found) == {"tf_logs", "tf_ops_5m"}, "a column more does not harm"
    assert "SeverityNumber" in found["tf_logs"]
    assert "DurationMax" in found["tf_ops_5m"]


async def test_a_second_run_has_nothing_to_do(client: ClickHouse) -> None:
    assert await _migrator(client).pending() == []
    assert await _migrator(client).migrate() == []


async def test_pending_changes_nothing(server: EmbeddedServer, client: ClickHouse) -> None:
    assert await _migrator(client, "untouched").pending() == migrations()
    assert server.run("SELECT count() FROM system.databases WHERE name = 'untouched'") == "0"


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(
    client: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = [replace(each, checksum=f"{each.number:064}") for each in migrations()]
    monkeypatch.setattr(migrate, "migrations", lambda: changed)
    with pytest.raises(Conflict, match=r"0001_traces\.sql was applied with other content"):
        await _migrator(client).pending()


async def test_one_of_two_runners_is_refused_and_the_lock_is_released(
    server: EmbeddedServer,
) -> None:
    async with await _connect(server) as one, await _connect(server) as other:
        runs = await asyncio.gather(
            _migrator(one, "raced").migrate(),
            _migrator(other, "raced").migrate(),
            return_exceptions=True,
        )
        refused = [run for run in runs if isinstance(run, BaseException)]
        # The second may also come when the first is through: then it has nothing to do.
        assert all(isinstance(run, Conflict) for run in refused), runs
        assert len(refused) < 2
        assert await _migrator(other, "raced").migrate() == []
    server.run("DROP DATABASE raced SYNC")


async def test_a_held_lock_refuses_and_a_stale_one_is_taken_over(
    client: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.command("CREATE TABLE telemetry.tf_migration_lock (Owner String) ENGINE = Memory")
    with pytest.raises(Conflict, match="another migration is running"):
        await _migrator(client).migrate()
    monkeypatch.setattr(migrate, "LOCK_SECONDS", -1)
    assert await _migrator(client).migrate() == []


async def test_a_migration_that_was_cut_short_is_finished_by_the_next_run(
    server: EmbeddedServer, client: ClickHouse
) -> None:
    made = 0

    async def failing(statement: str) -> None:
        nonlocal made
        creates = "CREATE TABLE IF NOT EXISTS cut.tf_" in statement
        made += creates
        if creates and made == 5:
            raise ConnectionResetError
        await client.command(statement)

    with pytest.raises(ConnectionResetError):
        await Migrator(failing, client.query, database="cut").migrate()
    assert await _migrator(client, "cut").migrate() == migrations()
    assert await _migrator(client, "cut").problems() == []
    server.run("DROP DATABASE cut SYNC")


def test_all_tables_and_views_exist(server: EmbeddedServer) -> None:
    names = server.run("SELECT name FROM system.tables WHERE database = 'telemetry'").split()
    assert {*expected_columns(), *TABLES, *VIEWS} <= set(names)


VIEWS = (
    "otel_traces",
    "otel_logs",
    "otel_metrics_gauge",
    "otel_metrics_sum",
    "otel_metrics_histogram",
    "otel_metrics_exp_histogram",
    "otel_metrics_exponential_histogram",
    "otel_metrics_summary",
    "otel_traces_trace_id_ts",
)
_TRACE_COLUMNS = (
    "Timestamp TraceId SpanId ParentSpanId TraceState SpanName SpanKind ServiceName "
    "ResourceAttributes ScopeName ScopeVersion SpanAttributes Duration StatusCode StatusMessage "
    "Events.Timestamp Events.Name Events.Attributes Links.TraceId Links.SpanId Links.TraceState "
    "Links.Attributes"
)
_LOG_COLUMNS = (
    "Timestamp TimestampTime TraceId SpanId TraceFlags SeverityText SeverityNumber ServiceName "
    "Body ResourceSchemaUrl ResourceAttributes ScopeSchemaUrl ScopeName ScopeVersion "
    "ScopeAttributes LogAttributes EventName"
)
_POINT_COLUMNS = (
    "ResourceAttributes ResourceSchemaUrl ScopeName ScopeVersion ScopeAttributes "
    "ScopeDroppedAttrCount ScopeSchemaUrl ServiceName MetricName MetricDescription MetricUnit "
    "Attributes StartTimeUnix TimeUnix"
)
EXPORTER_COLUMNS = {
    "otel_traces": _TRACE_COLUMNS,
    "otel_logs": _LOG_COLUMNS,
    "otel_metrics_gauge": f"{_POINT_COLUMNS} Value Flags Exemplars.TraceId",
    "otel_metrics_sum": f"{_POINT_COLUMNS} Value Flags AggregationTemporality IsMonotonic",
    "otel_metrics_histogram": (
        f"{_POINT_COLUMNS} Count Sum BucketCounts ExplicitBounds Flags Min Max "
        "AggregationTemporality Exemplars.Value"
    ),
    "otel_metrics_exp_histogram": (
        f"{_POINT_COLUMNS} Count Sum Scale ZeroCount PositiveOffset PositiveBucketCounts "
        "NegativeOffset NegativeBucketCounts Flags Min Max AggregationTemporality"
    ),
    "otel_metrics_summary": (
        f"{_POINT_COLUMNS} Count Sum ValueAtQuantiles.Quantile ValueAtQuantiles.Value Flags"
    ),
    "otel_traces_trace_id_ts": "TraceId Start End",
}


@pytest.mark.parametrize("view", EXPORTER_COLUMNS)
def test_a_view_has_the_columns_of_the_exporter(server: EmbeddedServer, view: str) -> None:
    described = [row["name"] for row in server.rows(f"DESCRIBE TABLE telemetry.{view}")]
    assert described[0] == "TenantId"
    assert set(EXPORTER_COLUMNS[view].split()) <= set(described)
    assert len(described) == len(set(described))


@pytest.fixture(scope="module")
def stored(server: EmbeddedServer) -> EmbeddedServer:
    """Two tenants; 'acme' has enough rows that an index can leave granules out."""
    server.run(
        "INSERT INTO telemetry.tf_traces (TenantId, RetentionDays, Timestamp, TraceId, SpanId, "
        "SpanName, ServiceName, StatusCode, Duration, SpanAttributes) "
        "SELECT if(number % 2, 'acme', 'other'), 30, now64(9) - toIntervalSecond(number % 3000), "
        "sipHash128(number), "
        "reinterpretAsFixedString(toUInt64(number + 1)), 'op', 'svc', "
        "if(number % 10 = 3, 'Error', 'Ok'), number, map('k', toString(number % 7)) "
        "FROM numbers(100000)",
        {"max_insert_threads": "1"},
    )
    server.run(
        "INSERT INTO telemetry.tf_traces (TenantId, RetentionDays, Timestamp, TraceId, SpanId, "
        f"ServiceName) VALUES ('acme', 30, now64(9), unhex('{TRACE}'), unhex('00000000000000aa'), "
        "'svc')"
    )
    server.run(
        "INSERT INTO telemetry.tf_logs (TenantId, RetentionDays, Timestamp, TraceId, SpanId, Flags,"
        f" Body) VALUES ('acme', 30, now64(9), unhex('{TRACE}'), unhex('00000000000000aa'), "
        "4294967041, 'with trace'), ('acme', 30, now64(9), '', '', 0, 'without')"
    )
    return server


def test_the_view_of_traces_finds_a_trace_by_its_hex_id_through_the_index(
    stored: EmbeddedServer,
) -> None:
    where = f"FROM telemetry.otel_traces WHERE TraceId = '{TRACE}'"
    assert stored.rows(f"SELECT TraceId, SpanId, ParentSpanId {where}") == [
        {"TraceId": TRACE, "SpanId": "00000000000000aa", "ParentSpanId": ""}
    ]
    assert _granules(stored, f"SELECT SpanName {where}", "idx_trace_id") < 10


def _granules(server: EmbeddedServer, sql: str, index: str) -> int:
    """How many granules are left behind *index*, summed over everything that is read."""
    lines = server.run(f"EXPLAIN indexes = 1 {sql}").splitlines()
    at = [number for number, line in enumerate(lines) if line.strip() == f"Name: {index}"]
    assert at, lines
    left = 0
    for number in at:
        granules = next(line for line in lines[number:] if "Granules:" in line)
        kept, all_of_them = granules.split(":")[1].split("/")
        assert int(all_of_them) > 0
        left += int(kept)
    return left


def test_the_view_of_logs_uses_its_index_and_shows_no_id_as_empty(stored: EmbeddedServer) -> None:
    where = f"FROM telemetry.otel_logs WHERE TraceId = '{TRACE}'"
    assert stored.rows(f"SELECT Body, TraceId, SpanId, TraceFlags, Flags {where}") == [
        {
            "Body": "with trace",
            "TraceId": TRACE,
            "SpanId": "00000000000000aa",
            "TraceFlags": 1,
            "Flags": 4294967041,
        }
    ]
    assert _granules(stored, f"SELECT Body {where}", "idx_trace_id") >= 1
    assert stored.rows(
        "SELECT TraceId, SpanId FROM telemetry.otel_logs WHERE Body = 'without'"
    ) == [{"TraceId": "", "SpanId": ""}]
    stored.run("SELECT TimestampTime FROM telemetry.otel_logs WHERE TimestampTime > now() - 60")


def test_the_times_of_a_trace_are_found_by_its_hex_id(stored: EmbeddedServer) -> None:
    found = stored.rows(
        "SELECT TenantId, TraceId, Start <= End AS Ordered FROM telemetry.otel_traces_trace_id_ts "
        f"WHERE TraceId = '{TRACE}'"
    )
    assert found == [{"TenantId": "acme", "TraceId": TRACE, "Ordered": 1}]


def test_s30_a_tenants_views_show_that_tenant_only_and_may_be_made_again(
    stored: EmbeddedServer,
) -> None:
    for statement in views_of_tenant("telemetry", "acme") * 2:
        stored.run(statement)
    assert stored.run("SELECT count() FROM tenant_acme.otel_traces") == "50001"
    names = stored.run("SELECT name FROM system.tables WHERE database = 'tenant_acme'").split()
    assert set(names) == {*VIEWS, "rejected_items"}
    columns = [row["name"] for row in stored.rows("DESCRIBE TABLE tenant_acme.otel_traces")]
    assert " ".join(str(name) for name in columns).startswith(_TRACE_COLUMNS)
    columns = [row["name"] for row in stored.rows("DESCRIBE TABLE tenant_acme.otel_logs")]
    assert " ".join(str(name) for name in columns).startswith(_LOG_COLUMNS)
    for view in VIEWS:
        stored.run(f"SELECT * FROM tenant_acme.{view} LIMIT 1")
    sql = f"SELECT SpanName FROM tenant_acme.otel_traces WHERE TraceId = '{TRACE}'"
    assert _granules(stored, sql, "idx_trace_id") < 10


@pytest.mark.parametrize("tenant", ["", "a b", "a`b", "a'b", "a.b", "-a", "ä", "x" * 65])
def test_s41_an_id_that_no_tenant_can_have_never_reaches_sql(tenant: str) -> None:
    with pytest.raises(Invalid):
        tenant_database(tenant)
    with pytest.raises(Invalid):
        views_of_tenant("telemetry", tenant)


def test_the_rollups_count_what_was_inserted(stored: EmbeddedServer) -> None:
    counts = (
        "SELECT sum(Spans) AS spans, sum(Errors) AS errors FROM telemetry.{} "
        "WHERE TenantId = 'acme' AND ServiceName = 'svc'"
    )
    for table in ("tf_red_1m", "tf_ops_5m"):
        row = stored.rows(counts.format(table))[0]
        assert {name: int(str(count)) for name, count in row.items()} == {
            "spans": 50001,
            "errors": 10000,
        }
    assert stored.run("SELECT sum(Spans) FROM telemetry.tf_services WHERE SpanName = 'op'") == (
        "100000"
    )
    hashed = (
        f"cityHash64(CAST('acme', 'LowCardinality(String)'), toFixedString(unhex('{TRACE}'), 16))"
    )
    assert stored.run(f"SELECT count() FROM telemetry.tf_trace_ts WHERE H = {hashed}") == "1"


def test_every_rollup_and_catalogue_expires(server: EmbeddedServer) -> None:
    without = server.run(
        "SELECT name FROM system.tables WHERE database = 'telemetry' AND engine LIKE '%MergeTree' "
        "AND name NOT IN ('tf_migrations') AND create_table_query NOT LIKE '% TTL %'"
    )
    assert without == ""


def test_an_insert_that_is_repeated_with_its_token_is_stored_once_in_views_too(
    server: EmbeddedServer,
) -> None:
    insert = (
        "INSERT INTO telemetry.tf_traces (TenantId, RetentionDays, Timestamp, TraceId, SpanId, "
        "ServiceName, SpanName) FORMAT TSV"
    )
    row = f"twice\t30\t{time.time():.0f}\t0123456789abcdef\t01234567\tsvc\top\n".encode()
    server.run("TRUNCATE TABLE telemetry.tf_traces")
    for _ in range(2):
        reply = server.ask(
            insert,
            {
                "insert_deduplication_token": "one",
                "deduplicate_blocks_in_dependent_materialized_views": "1",
            },
            body=row,
        )
        assert reply.status == 200, reply.text
    for table, sql in (
        ("tf_traces", "count()"),
        ("tf_red_1m", "sum(Spans)"),
        ("tf_ops_5m", "sum(Spans)"),
        ("tf_services", "sum(Spans)"),
    ):
        counted = server.run(f"SELECT {sql} FROM telemetry.{table} WHERE TenantId = 'twice'")
        assert counted == "1", table


def test_every_statement_names_its_database_by_the_placeholder() -> None:
    for migration in migrations():
        assert "telemetry." not in migration.text
