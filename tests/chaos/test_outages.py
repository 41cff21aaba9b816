"""What is slow, away or full for a while, on both logs: clients go on, and nothing is lost."""

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.chaos.campaign.bodies import body
from tests.chaos.campaign.nemesis import OVERLOAD_CODES
from tests.chaos.kafka_products import SESSION_SECONDS, kafka_settings
from tests.chaos.load import load
from tests.chaos.test_gateway_crashes import (
    RECORDS_AFTER,
    RECORDS_BEFORE,
    check_that_each_is_stored_once,
    wait_for_progress,
)
from tests.e2e.processes import Product, wait_for
from tests.kafka.broker import Broker
from tests.kafka.fixtures import StartBroker
from tests.kafka.proxy import LossyProxy, running
from tests.ports import free_ports

STORED_SECONDS_MAX: Final = 60
MANY_SPANS: Final = 300_000
# About 3 MB each.
LARGE_ITEMS: Final = 25_000
RSS_BYTES_MAX: Final = 400 * 1024 * 1024

pytestmark = pytest.mark.timeout(240)


@dataclass
class Rig:
    """A product that reaches its ClickHouse through a proxy."""

    product: Product
    clickhouse: LossyProxy


@contextmanager
def rig_of(folder: Path, settings: dict[str, str]) -> Iterator[Rig]:
    port, behind = free_ports(2)
    clickhouse = LossyProxy(port, behind)
    with ExitStack() as stack:
        stack.enter_context(running(clickhouse))
        product = Product(folder, settings, clickhouse_port=port, own_clickhouse_port=behind)
        yield Rig(stack.enter_context(product), clickhouse)


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    settings = {}
    if request.param == "kafka":
        settings = kafka_settings(request.getfixturevalue("kafka"))
    with rig_of(tmp_path_factory.mktemp("outages"), settings) as started:
        yield started


def test_F06_a_gateway_that_is_told_to_stop_finishes_what_it_has(rig: Rig) -> None:
    run = "run/F06/"
    with load(rig.product.http_port, run) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        assert rig.product.stop("ingest") == 0
        rig.product.start("ingest")
        wait_for_progress(ledger, RECORDS_AFTER)
    check_that_each_is_stored_once(rig.product, ledger, run)


def test_F31_clients_notice_nothing_while_clickhouse_is_away(rig: Rig) -> None:
    run = "run/F31/"
    with load(rig.product.http_port, run) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        rig.product.kill("clickhouse")
        for _part in range(3):
            wait_for_progress(ledger, RECORDS_AFTER)
            time.sleep(SESSION_SECONDS / 2)
        rig.product.start("clickhouse")
        wait_for_progress(ledger, RECORDS_AFTER)
    assert (ledger.unsure, ledger.retries) == (set(), 0)
    check_that_each_is_stored_once(rig.product, ledger, run)


def test_F32_a_slow_clickhouse_does_not_cost_the_partitions(rig: Rig) -> None:
    run = "run/F32/"
    with load(rig.product.http_port, run) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        rig.clickhouse.delay_seconds = SESSION_SECONDS + 1.0
        wait_for_progress(ledger, RECORDS_AFTER)
        time.sleep(SESSION_SECONDS + 2)
        rig.clickhouse.delay_seconds = 0.0
    assert (ledger.unsure, ledger.retries) == (set(), 0)
    check_that_each_is_stored_once(rig.product, ledger, run)
    assert "counts this writer out" not in rig.product.output_of("writer")


@pytest.mark.parametrize("code", OVERLOAD_CODES)
def test_F34_F35_F37_F39_what_clickhouse_cannot_now_is_repeated(rig: Rig, code: int) -> None:
    run = f"run/code-{code}/"
    text = f"Code: {code}. DB::Exception: on purpose"
    with load(rig.product.http_port, run) as ledger:
        rig.clickhouse.refusal = (
            f"HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: {code}\r\n"
            f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
        ).encode()
        wait_for_progress(ledger, RECORDS_AFTER)
        rig.clickhouse.refusal = None
    assert (ledger.unsure, ledger.retries) == (set(), 0)
    check_that_each_is_stored_once(rig.product, ledger, run)


def test_F57_a_request_of_very_many_spans_is_stored_whole_and_once(rig: Rig) -> None:
    request = body("traces", "run-F57", "default", 0, MANY_SPANS)
    connection = http.client.HTTPConnection("127.0.0.1", rig.product.http_port, timeout=60)
    connection.request("POST", "/v1/traces", request, {"Content-Type": "application/x-protobuf"})
    assert connection.getresponse().status == 200
    connection.close()
    sql = (
        "SELECT count() AS rows, uniqExact(SpanAttributes['tf.test.id']) AS ids FROM tf_traces "
        "WHERE ServiceName = 'run-F57'"
    )

    def stored() -> tuple[int, int]:
        (row,) = rig.product.rows(sql)
        return int(row["rows"]), int(row["ids"])

    wait_for("all rows", lambda: stored()[0] >= MANY_SPANS, STORED_SECONDS_MAX)
    assert stored() == (MANY_SPANS, MANY_SPANS)


def test_F08_more_than_the_memory_holds_is_refused_and_not_fatal(tmp_path: Path) -> None:
    run = "run-F08"
    settings = {"INGEST_MEMORY_BYTES_MAX": str(16 * 1024 * 1024)}
    with Product(tmp_path, settings) as product:
        requests = [
            body("logs", run, "default", first * LARGE_ITEMS, LARGE_ITEMS) for first in range(24)
        ]
        largest = 0
        with ThreadPoolExecutor(len(requests)) as threads:
            posts = [threads.submit(status_of, product, request) for request in requests]
            while not all(post.done() for post in posts):
                memory = psutil.Process(product.pid("ingest")).memory_info().rss
                largest = max(largest, memory)
                time.sleep(0.02)
        answers = [post.result() for post in posts]
        assert set(answers) == {200, 503}
        assert largest < RSS_BYTES_MAX
        for number, (status, request) in enumerate(zip(answers, requests, strict=True)):
            if status == 503:
                wait_for(
                    f"request {number}",
                    lambda again=request: status_of(product, again) == 200,  # type: ignore[misc]
                    30,
                )
        sql = "SELECT count() AS rows, uniqExact(LogAttributes['tf.test.id']) AS ids FROM tf_logs"
        every = LARGE_ITEMS * len(requests)
        wait_for("all rows", lambda: int(product.rows(sql)[0]["rows"]) >= every, STORED_SECONDS_MAX)
        assert product.rows(sql) == [{"rows": every, "ids": every}]


def status_of(product: Product, request: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", product.http_port, timeout=60)
    try:
        headers = {"Content-Type": "application/x-protobuf"}
        connection.request("POST", "/v1/logs", request, headers)
        return connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        return 503  # refused before the body was taken
    finally:
        connection.close()


def test_F24_a_slow_broker_is_waited_for(own_broker: StartBroker) -> None:
    (port,) = free_ports(1)
    broker = own_broker(advertised_port=port)
    proxy = LossyProxy(port, broker.port)
    run = "run/F24/"
    with (
        running(proxy),
        Product(broker.data.parent / "product", kafka_settings(broker)) as product,
    ):
        with load(product.http_port, run) as ledger:
            wait_for_progress(ledger, RECORDS_BEFORE)
            proxy.delay_seconds = 0.5
            wait_for_progress(ledger, RECORDS_BEFORE)
            proxy.delay_seconds = 0.0
            wait_for_progress(ledger, RECORDS_AFTER)
        assert ledger.retries == 0
        check_that_each_is_stored_once(product, ledger, run)


def test_F52_time_zones_move_no_row(kafka: Broker, tmp_path: Path) -> None:
    run = "run/F52/"
    product = Product(tmp_path, kafka_settings(kafka))
    product.own_settings["ingest"]["TZ"] = "Pacific/Kiritimati"
    product.own_settings["writer"]["TZ"] = "America/New_York"
    with product:
        with load(product.http_port, run) as ledger:
            wait_for_progress(ledger, RECORDS_AFTER)
        check_that_each_is_stored_once(product, ledger, run)
        (row,) = product.rows(
            "SELECT countIf(abs(dateDiff('second', Timestamp, now())) > 600) AS moved FROM tf_logs"
        )
        assert int(row["moved"]) == 0
