"""The data set that reading is measured with, and the questions: on a small part of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from benchmarks.dataset.loading import DATABASE, Manifest, load, manifest_in
from benchmarks.dataset.schedule import DAY_NS, Batch, Plan
from benchmarks.dataset.skew import ALL_TENANTS, DAYS
from benchmarks.reading.__main__ import HEAD, Found, line_of
from benchmarks.reading.measure import asking, engine, figures, samples
from benchmarks.reading.questions import QUESTIONS, Question
from benchmarks.reading.routes import Started, api_process, routes
from control.telemetry.queries.engine import Reading
from shared.clickhouse.client import ClickHouse, ClickHouseAddress
from shared.clickhouse.migrate import Migrator
from tests.integration.shared.embedded_server import EmbeddedServer

# A midnight, whose day before is the last one of the data set.
END_NS = 20_785 * DAY_NS
TENANT = ALL_TENANTS[0].name


class PartOfIt(Plan):
    """What the largest scale has in a few minutes of its last day, and all of the smallest."""

    def batches(self) -> Iterator[Batch]:
        """One of each signal."""
        last = DAYS - 1
        yield Batch("traces", last, 0, 1)
        yield Batch("logs", last, 0, 1)
        yield Batch("metrics", last, 47, 48)


class SmallManifest(Manifest):
    """Of that part."""

    @property
    def plan(self) -> Plan:
        """What it is to hold."""
        return PartOfIt(self.scale, self.seed, self.end_ns)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("dataset")
    with EmbeddedServer(folder / "clickhouse") as started:
        asyncio.run(_load(folder, started.port))
        yield started


@pytest.fixture(scope="module")
def started(server: EmbeddedServer) -> Iterator[Started]:
    """An API process over it."""
    with api_process(server.port) as api:
        yield api


async def _load(folder: Path, port: int) -> None:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", port)) as clickhouse:
        await Migrator(clickhouse.command, clickhouse.query, database=DATABASE).migrate()
        manifest = SmallManifest(0.000001, 7, END_NS)
        told: list[str] = []
        await load(clickhouse, folder, manifest, told.append)
        assert len(told) == 3
        # A run that was cut short before it could note a batch stores it once more.
        manifest.done.clear()
        await load(clickhouse, folder, manifest, told.append)
        assert manifest_in(folder) == Manifest(**vars(manifest))
        assert manifest.is_finished


@pytest.fixture
async def clickhouse(server: EmbeddedServer) -> AsyncIterator[ClickHouse]:
    async with ClickHouse(ClickHouseAddress("127.0.0.1", server.port)) as client:
        yield client


def test_the_same_seed_gives_the_same_requests_and_another_gives_others() -> None:
    batch = Batch("traces", DAYS - 1, 0, 1)
    first, again, other = (
        [body for _tenant, body in Plan(0.000001, seed, END_NS).bodies(batch)] for seed in (7, 7, 8)
    )
    assert first == again
    assert len({*first, *other}) == len(first) + len(other)


def test_the_whole_is_as_large_as_it_says_and_two_fifths_are_of_one_tenant() -> None:
    plan = Plan(1.0, 42, END_NS)
    by_tenant = {
        tenant.name: sum(plan.requests_of(tenant, day) for day in range(DAYS)) * 1_000
        for tenant in ALL_TENANTS
    }
    points = sum(map(plan.series_of, ALL_TENANTS)) * (1_440 + 6 * 160)
    assert sum(by_tenant.values()) == pytest.approx(50_000_000, rel=0.001)
    assert points == pytest.approx(100_000_000, rel=0.002)
    assert by_tenant[TENANT] == pytest.approx(20_000_000, rel=0.001)
    names = [batch.name for batch in plan.batches()]
    assert len(names) == len(set(names))


async def test_rows_arrive_once_as_the_plan_says(clickhouse: ClickHouse) -> None:
    for table in ("tf_traces", "tf_logs"):
        rows = await clickhouse.query(
            f"SELECT TenantId, count(), min(Timestamp) >= toDateTime({END_NS // 10**9 - 86_400}) "
            f"FROM {DATABASE}.{table} GROUP BY TenantId"
        )
        assert {(name, count, late) for name, count, late in rows} == {
            (tenant.name, 1_000, 1) for tenant in ALL_TENANTS
        }
    for table in ("tf_metrics_gauge", "tf_metrics_sum"):
        points = await clickhouse.query(
            f"SELECT TenantId, count(), uniqExact(SeriesHash) FROM {DATABASE}.{table} "
            "GROUP BY TenantId"
        )
        # Twenty series each, for half an hour.
        assert {tuple(row) for row in points} == {(one.name, 600, 20) for one in ALL_TENANTS}
    (counts,) = await clickhouse.query(
        "SELECT uniqExact(TraceId, SpanId), uniqExact(TraceId), max(services) FROM "
        "(SELECT TraceId, SpanId, uniqExact(ServiceName) OVER (PARTITION BY TraceId) AS services "
        f"FROM {DATABASE}.tf_traces)"
    )
    spans, traces, services = counts
    assert spans == 20 * 1_000
    assert 20 * 1_000 / 15 < traces < 20 * 1_000 / 4
    assert services > 5
    (linked,) = await clickhouse.query(
        f"SELECT count() FROM {DATABASE}.tf_logs WHERE (TraceId, SpanId) IN "
        f"(SELECT TraceId, SpanId FROM {DATABASE}.tf_traces)"
    )
    assert linked[0] == pytest.approx(0.7 * 20 * 1_000, rel=0.05)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.name)
async def test_every_question_of_the_benchmark_is_answered(
    clickhouse: ClickHouse, server: EmbeddedServer, started: Started, question: Question
) -> None:
    process = psutil.Process(server.pid)
    given = await samples(clickhouse, TENANT, end_ns=END_NS, seed=7)
    async with (
        engine(clickhouse) as ours,
        engine(clickhouse, plain=True) as plain,
        routes(started, TENANT) as over_http,
    ):
        answer = await question.ask(Reading(ours, TENANT), given[0])
        day, without, route = [
            await figures(ask, given, processes=[process], rounds=2, users=users)
            for ask, users in (
                (asking(ours, TENANT, question.ask), 2),
                (asking(plain, TENANT, question.plain), 1),
                (partial(over_http.ask, question), 1),
            )
        ]
    shown = Counter(type(one).__name__ for one in vars(answer).values())
    assert shown["list"] >= 1
    content = next(one for one in vars(answer).values() if isinstance(one, list))
    # A thousand lines need not have the rarer words.
    assert content or question.name.endswith(("1 of 500", "1 of 2 000")), answer
    assert all(0 < one.p50_ms <= one.p95_ms for one in (day, without, route))
    # The embedded engine does not tell what an answer without rows read.
    assert (without.rows > 0 and route.rows > 0) or not content
    line = line_of(question, Found(day, day, day, route, without, day))
    assert line.count("|") == HEAD.splitlines()[0].count("|")
