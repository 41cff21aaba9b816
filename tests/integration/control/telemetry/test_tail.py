"""Live tails over the API: each item once, also after a break; who is slow is told."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import pytest

from control.telemetry import arrivals as arrivals_module
from control.telemetry.arrivals import Arrivals
from control.telemetry.queries import tail as tail_module
from control.telemetry.queries.engine import Engine, Reading
from control.telemetry.queries.logs import LOG_ITEMS
from control.telemetry.queries.tail import TAILS_OF_TENANT_MAX, Followed, Tails
from ingest.embedded_log import EmbeddedLog
from ingest.ingested import follow_ingested
from ingest.signals import INGESTED_TOPIC
from shared.clickhouse.client import ClickHouse
from shared.errors import Unavailable
from tests.control.tails import WAIT_SECONDS_MAX, tail_of
from tests.control.telemetry import Explorer, store
from tests.control.telemetry_data import SECOND, Line, Span, logs_request, spans_request


async def log(explorer: Explorer, *bodies: str, seconds_ago: float = 0.0) -> None:
    now = time.time_ns()
    at = now - int(seconds_ago * SECOND)
    lines = [Line(at + number, body) for number, body in enumerate(bodies)]
    await store(explorer.store, "logs", explorer.tenant, logs_request(lines), received_ns=now)


async def test_what_arrives_is_shown_once_and_only_to_its_tenant(explorer: Explorer) -> None:
    assert explorer.other is not None
    async with (
        tail_of(explorer.client, "logs/tail?seconds=4&search=wanted") as logs,
        tail_of(explorer.client, "spans/tail?seconds=4") as spans,
        tail_of(explorer.other.client, "logs/tail?seconds=4") as foreign,
    ):
        for number in range(2):
            now = time.time_ns()
            await log(explorer, f"wanted {number}", "other")
            await store(
                explorer.store, "traces", explorer.tenant,
                spans_request([Span(9, number + 1, now, name=f"op {number}")]), received_ns=now,
            )  # fmt: skip
            await asyncio.sleep(0.5)
        found = await asyncio.gather(logs.all(), spans.all(), foreign.all())

    assert list(found) == [["wanted 0", "wanted 1"], ["op 0", "op 1"], []]


async def test_S47_a_tail_that_broke_goes_on_without_loss_or_repeats(explorer: Explorer) -> None:
    async with tail_of(explorer.client) as before:
        await log(explorer, "early", seconds_ago=3)
        await log(explorer, "given")
        assert await before.first(2) == ["early", "given"]
    await log(explorer, "late", seconds_ago=2)
    await log(explorer, "new", "newer")

    async with tail_of(explorer.client, **{"Last-Event-ID": before.last_id}) as after:
        assert await after.first(3) == ["late", "new", "newer"]
    async with tail_of(explorer.client, f"logs/tail?seconds=2&cursor={after.last_id}") as again:
        assert await again.all() == []


async def test_S47_a_cursor_is_good_for_its_tenant_and_its_question(explorer: Explorer) -> None:
    assert explorer.other is not None
    async with tail_of(explorer.client) as tail:
        await tail.first(0)
    path = f"/telemetry/logs/tail?seconds=1&cursor={tail.last_id}"

    assert (await explorer.client.get(path)).status == 200
    for client, asked in (
        (explorer.other.client, path),
        (explorer.client, f"{path}&service=web"),
        (explorer.client, path.replace("logs", "spans")),
        (explorer.client, path[:-3]),
    ):
        answer = await client.get(asked)
        assert answer.status == 400, asked
        assert "begin without a cursor" in answer.json["detail"]
    long = await explorer.client.get(
        "/telemetry/logs/tail?seconds=1", **{"Last-Event-ID": "x" * 8_001}
    )
    assert long.status == 400


async def test_a_WebSocket_tells_the_same_and_takes_the_same_cursor(explorer: Explorer) -> None:
    url = f"{explorer.client.url}/api/v2/telemetry/logs/tail?seconds=60"
    headers = {"Authorization": f"Bearer {explorer.client.token}"}
    async with asyncio.timeout(WAIT_SECONDS_MAX), aiohttp.ClientSession() as session:
        async with session.ws_connect(url, headers=headers) as socket:
            begun = await socket.receive_json()
            await log(explorer, "first")
            found = await socket.receive_json()
        await log(explorer, "second")
        async with session.ws_connect(f"{url}&cursor={found['cursor']}", headers=headers) as socket:
            resumed = await socket.receive_json()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{url}&cursor=x", headers=headers)
        async with session.ws_connect(url.replace("60", "1"), headers=headers) as socket:
            messages = [one.type async for one in socket]

    assert begun["items"] == []
    assert [one["body"] for one in found["items"]] == ["first"]
    assert [one["body"] for one in resumed["items"]] == ["second"]
    assert refused.value.status == 400
    assert messages == [aiohttp.WSMsgType.TEXT]
    assert socket.close_code == 1000


async def test_a_tail_whose_engine_goes_away_breaks_so_that_its_client_knows(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_arguments: Any) -> Any:
        raise Unavailable("ClickHouse is away")

    url = f"{explorer.client.url}/api/v2/telemetry/logs/tail?seconds=60"
    headers = {"Authorization": f"Bearer {explorer.client.token}"}
    async with (
        asyncio.timeout(WAIT_SECONDS_MAX),
        aiohttp.ClientSession() as session,
        tail_of(explorer.client) as tail,
        session.ws_connect(url, headers=headers) as socket,
    ):
        await tail.first(0)
        await socket.receive_json()
        monkeypatch.setattr(Engine, "rows", away)
        with pytest.raises(aiohttp.ClientPayloadError):
            await tail.all()
        closed = await socket.receive()

    assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1013)
    assert tail.last_id


async def test_who_is_slow_is_told_what_was_left_out(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "ITEMS_OF_LOOK_MAX", 3)
    monkeypatch.setattr(tail_module, "BACKLOG_MAX", 5)
    monkeypatch.setattr(tail_module, "BEGIN_SECONDS", 50)
    await log(explorer, *(str(number) for number in range(12)))

    async with tail_of(explorer.client) as tail:
        assert await tail.first(5) == ["7", "8", "9", "10", "11"]
    (left_out,) = tail.left_out
    range_of = f"startTime={left_out['startTime']}&endTime={left_out['endTime']}"
    missed = await explorer.client.get(f"/telemetry/logs?{range_of}")

    assert left_out["items"] == 7
    # The end is that of the last one that was left out.
    assert [one["body"] for one in missed.json["data"]] == ["5", "4", "3", "2", "1", "0"]


async def test_live_tails_of_a_tenant_have_a_limit_and_are_given_back(explorer: Explorer) -> None:
    url = f"{explorer.client.url}/api/v2/telemetry/logs/tail?seconds=60"
    headers = {"Authorization": f"Bearer {explorer.client.token}"}
    async with aiohttp.ClientSession() as session:
        open_tails = [await session.get(url, headers=headers) for _ in range(TAILS_OF_TENANT_MAX)]
        refused = await explorer.client.get("/telemetry/logs/tail?seconds=60")
        for one in open_tails:
            one.close()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while True:
                async with session.get(url, headers=headers) as again:
                    if again.status == 200:
                        break
                await asyncio.sleep(0.2)

    assert refused.status == 429
    assert all(one.status == 200 for one in open_tails)


@pytest.fixture
async def embedded_log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    log = await EmbeddedLog.open(tmp_path / "log.db", partitions={INGESTED_TOPIC: 2})
    yield log
    await log.close()


@pytest.fixture
def by_the_log_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told does not look by the clock."""
    monkeypatch.setattr(arrivals_module, "LOOK_SECONDS_TOLD", 3_600.0)


@pytest.mark.usefixtures("by_the_log_alone")
async def test_a_tail_is_woken_by_what_the_writer_tells_of_its_tenant(
    explorer: Explorer, embedded_log: EmbeddedLog
) -> None:
    arrivals, stopping = explorer.product.control.arrivals, asyncio.Event()
    begun = asyncio.Event()

    async def follow(tell: Any) -> None:
        def noted(document: Any) -> None:
            tell(document)
            begun.set()

        await follow_ingested(embedded_log, noted)

    running = asyncio.create_task(arrivals.run(follow, stopping))
    async with (
        asyncio.timeout(WAIT_SECONDS_MAX),
        tail_of(explorer.client, "logs/tail?seconds=900") as tail,
    ):
        await begun.wait()
        # What was looked for by the clock before the log was there is over.
        await asyncio.sleep(1.5)
        await log(explorer, "stored")
        for partition, document in ((0, b"none"), (1, told("acme")), (0, told(explorer.tenant))):
            await embedded_log.append(INGESTED_TOPIC, partition, document, ())
        assert await tail.first(1) == ["stored"]
        # An end of the process ends its tails.
        stopping.set()
        await running
        assert await tail.all() == []


def told(tenant: str) -> bytes:
    return orjson.dumps({"signal": "logs", "counts": [{"tenant": tenant, "rows": 1}]})


async def test_while_the_log_cannot_be_read_tails_look_by_the_clock(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals_module, "RETRY_SECONDS", 0.01)
    tries, stopping = 0, asyncio.Event()

    async def follow(_tell: Any) -> None:
        nonlocal tries
        tries += 1
        raise Unavailable("no log here")

    running = asyncio.create_task(explorer.product.control.arrivals.run(follow, stopping))
    async with tail_of(explorer.client) as tail:
        await log(explorer, "stored")
        assert await tail.first(1) == ["stored"]
    stopping.set()
    await running

    assert tries > 1


@pytest.fixture
def small_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow the machine is, nothing comes too late.
    monkeypatch.setattr(tail_module, "BEGIN_SECONDS", 600)
    monkeypatch.setattr(tail_module, "WINDOW_SECONDS", 600)
    monkeypatch.setattr(tail_module, "ITEMS_OF_LOOK_MAX", 4)
    monkeypatch.setattr(tail_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(arrivals_module, "LOOK_SECONDS", 0.0)


@pytest.mark.usefixtures("small_looks")
@pytest.mark.parametrize("seed", range(3))
async def test_S47_whatever_comes_in_whatever_order_is_given_once(
    engine: Engine, telemetry_store: ClickHouse, seed: int
) -> None:
    """Batches of random sizes and times, equal ones among them; the tail breaks again and again."""
    chance, tenant = random.Random(seed), uuid4().hex
    tails, cursor = Tails(Arrivals()), None
    base = time.time_ns()
    sent: list[str] = []
    given: list[str] = []
    for batch in range(12):
        lines = [
            # Every tenth of a second within some that are shown, so that many times are equal.
            Line(base + chance.randrange(-30, 30) * SECOND // 10, chance.choice(("a", f"{batch}")))
            for _ in range(chance.randrange(9))
        ]
        sent += [f"{line.time_ns} {line.body}" for line in lines]
        if lines:
            await store(
                telemetry_store, "logs", tenant, logs_request(lines), received_ns=time.time_ns()
            )
        what = Followed("logs", LOG_ITEMS, [], "question", cursor)
        async with aclosing(tails.follow(Reading(engine, tenant), what, seconds=60)) as looks:
            async for look in looks:
                assert look.left_out is None
                given += [f"{row['time_ns']} {row['body']}" for row in look.rows]
                cursor = look.cursor
                if chance.random() < 0.3 or not (look.rows or look.has_more):
                    break
    what = Followed("logs", LOG_ITEMS, [], "question", cursor)
    async with aclosing(tails.follow(Reading(engine, tenant), what, seconds=60)) as looks:
        async for look in looks:
            given += [f"{row['time_ns']} {row['body']}" for row in look.rows]
            if not (look.rows or look.has_more):
                break

    assert sorted(given) == sorted(sent)
