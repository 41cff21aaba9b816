"""What the writer waits for before it writes: tables, windows, and views of tenants."""

from collections.abc import Iterator

import pytest

from ingest.writer import Tenants, wait_until_ready
from shared.clickhouse.migrate import Problem
from shared.errors import Conflict, Unavailable


async def test_a_tenant_is_made_once_and_a_failure_delays_nobody() -> None:
    made: list[str] = []

    async def ensure(tenant: str) -> None:
        made.append(tenant)
        if tenant == "broken":
            raise Unavailable("no views now")

    tenants = Tenants(ensure)
    await tenants.ensure(["acme", "broken", "bolt"])
    await tenants.ensure(["acme", "broken", "bolt"])
    await tenants.close()
    assert made == ["acme", "broken", "bolt"]


async def test_I07_a_table_without_a_window_refuses_the_start() -> None:
    async def problems() -> list[Problem]:
        return [Problem("tf_logs", "has no deduplication window"), Problem("x", "is missing: …")]

    with pytest.raises(Conflict, match="tf_logs has no deduplication window"):
        await wait_until_ready(problems)


async def test_the_start_waits_while_clickhouse_is_away_or_tables_are_missing() -> None:
    missing = [Problem("tf_logs", "is missing: migrate")]
    answers: Iterator[list[Problem] | Unavailable] = iter([Unavailable("away"), missing, []])
    waits: list[float] = []

    async def problems() -> list[Problem]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    await wait_until_ready(problems, sleep)
    assert len(waits) == 2
