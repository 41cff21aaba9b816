"""The catalogue of metric series, filled by a job."""

import time
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from shared.clickhouse.rollups import HOUR_SECONDS, HOURS_PER_CALL_MAX, METRIC_TABLES, run_due
from tests.integration.shared.embedded_server import EmbeddedServer

HOUR = int(time.time()) // HOUR_SECONDS * HOUR_SECONDS - 5 * HOUR_SECONDS
CLOSED = HOUR + HOUR_SECONDS + 901


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("rollups") / "data") as server:
        yield server


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[ClickHouse]:
    server.run("DROP DATABASE IF EXISTS rolled SYNC")
    address = ClickHouseAddress("127.0.0.1", server.port, "default", "")
    async with await ClickHouse.connect(address) as client:
        await Migrator(client.command, client.query, database="rolled").migrate()
        yield client


def _insert(server: EmbeddedServer, table: str, rows: list[tuple[int, int, float]]) -> None:
    """Points of tenant acme: second of TimeUnix, series, value."""
    value = ", Value" if table in ("tf_metrics_gauge", "tf_metrics_sum") else ", Count"
    values = ", ".join(
        f"('acme', 30, 'm', 'svc', {second}, {series}, map('host', 'h'), "
        f"map('n', '{series}'), {number})"
        for second, series, number in rows
    )
    server.run(
        f"INSERT INTO rolled.{table} (TenantId, RetentionDays, MetricName, ServiceName, TimeUnix, "
        f"SeriesHash, ResourceAttributes, Attributes{value}) VALUES {values}"
    )


SERIES = "SELECT count(), uniqExact(SeriesHash), any(Attributes['n']) FROM rolled.tf_metric_series"


async def _run(client: ClickHouse, now_seconds: float, *, stored: bool = False) -> int:
    """*stored*: something was, since the call before."""
    looked = 0 if stored else now_seconds + HOUR_SECONDS
    return await run_due(client, database="rolled", now_seconds=now_seconds, looked_seconds=looked)


async def test_a_closed_hour_is_looked_at_once(client: ClickHouse) -> None:
    assert await _run(client, CLOSED) == HOURS_PER_CALL_MAX
    while await _run(client, CLOSED):
        pass
    assert await _run(client, CLOSED) == 0
    assert await _run(client, CLOSED + HOUR_SECONDS) == 1


async def test_an_open_hour_is_left_alone(server: EmbeddedServer, client: ClickHouse) -> None:
    _insert(server, "tf_metrics_gauge", [(HOUR, 1, 5)])
    await _run(client, CLOSED - 2)
    assert server.run(SERIES).startswith("0")
    await _run(client, CLOSED)
    assert server.run(SERIES) == "1\t1\t1"


@pytest.mark.parametrize("table", METRIC_TABLES)
async def test_a_new_series_is_in_the_catalogue_with_its_labels_within_a_call(
    server: EmbeddedServer, client: ClickHouse, table: str
) -> None:
    now = time.time()
    _insert(server, table, [(int(now) - 5, 77, 1), (int(now) - 4, 77, 1)])
    for _ in range(2):
        await _run(client, now)
        assert server.run(SERIES) == "1\t1\t77"
    row = server.rows("SELECT * FROM rolled.tf_metric_series")[0]
    assert row["ResourceAttributes"] == {"host": "h"}
    assert row["MetricName"] == "m"


async def test_a_series_that_came_late_is_found_when_its_hour_closes(
    server: EmbeddedServer, client: ClickHouse
) -> None:
    _insert(server, "tf_metrics_summary", [(HOUR + 5, 9, 1)])
    await _run(client, CLOSED)
    assert server.run(SERIES) == "1\t1\t9"


@pytest.mark.parametrize("table", METRIC_TABLES)
async def test_a_series_that_came_when_its_hour_was_closed_is_found_by_what_was_stored(
    server: EmbeddedServer, client: ClickHouse, table: str
) -> None:
    now = time.time()
    hours = [HOUR - 20 * 24 * HOUR_SECONDS, HOUR - 24 * HOUR_SECONDS, HOUR]
    for hour in hours:
        _insert(server, table, [(hour + 5, 1, 1)])
    while await _run(client, now, stored=True):
        pass
    for number in range(3):
        _insert(server, table, [(hour + 7, 9, number) for hour in hours])
    while await _run(client, now):
        pass
    assert server.run("SELECT count() FROM rolled.tf_metric_series WHERE SeriesHash = 9") == "0"
    server.run(f"OPTIMIZE TABLE rolled.{table} FINAL")

    await _run(client, now, stored=True)

    found = server.rows("SELECT Day, Attributes FROM rolled.tf_metric_series WHERE SeriesHash = 9")
    days = [time.strftime("%Y-%m-%d", time.gmtime(hour)) for hour in hours]
    assert sorted(str(row["Day"]) for row in found) == sorted(days)
    assert [row["Attributes"] for row in found] == [{"n": "9"}] * 3
