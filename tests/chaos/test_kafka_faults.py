"""Several gateways and writers on Kafka: what is killed, frozen, cut off or moved under load loses
nothing, and nothing is stored twice."""

import http.client
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.chaos.kafka_products import SESSION_SECONDS, kafka_settings
from tests.chaos.load import Ledger, load, request_of
from tests.chaos.test_gateway_crashes import (
    RECORDS_AFTER,
    RECORDS_BEFORE,
    check_that_each_is_stored_once,
    wait_for_progress,
)
from tests.e2e.processes import Product, wait_for
from tests.kafka.broker import Broker, Cluster
from tests.kafka.fixtures import StartBroker
from tests.kafka.proxy import LossyProxy, running
from tests.ports import free_ports

# I13: after the last fault everything flows again within so long, without anybody's help.
RECOVERY_SECONDS_MAX: Final = 30
# A writer that is gone is replaced within so long.
TAKEOVER_SECONDS_MAX: Final = 10
# While nothing can be made durable, a client hears of it within so long.
TOLD_SECONDS_MAX: Final = 5.5

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def product(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("kafka-faults")
    with Product(folder, kafka_settings(kafka), gateways=2, writers=3) as started:
        started.stop("writer-3")
        yield started


@contextmanager
def load_on_all(product: Product, run: str) -> Iterator[Ledger]:
    """Load on all gateways; whatever a test did, all processes run again afterwards."""
    first, *others = product.http_ports
    with ExitStack() as stack:
        for name in ("ingest", "ingest-2", "writer", "writer-2"):
            stack.callback(run_again, product, name)
        yield stack.enter_context(load(first, run, *others))


def run_again(product: Product, name: str) -> None:
    """So that a test which failed leaves the product to the next one as it found it."""
    if product.has_ended(name):
        product.start(name)
    product.resume(name)


def stored(product: Product, run: str) -> int:
    sql = "SELECT count() AS rows FROM tf_logs WHERE startsWith(Body, {run:String})"
    return int(product.rows(sql, run=run)[0]["rows"])


def wait_until_stored(product: Product, ledger: Ledger, run: str, seconds_max: float) -> None:
    """Returns when what is acknowledged now is stored."""
    target = len(ledger.acknowledged)
    wait_for(f"{target} stored", lambda: stored(product, run) >= target, seconds_max)


def test_F16_writers_come_and_go_under_load(product: Product) -> None:
    run = "run/F16/"
    with load_on_all(product, run) as ledger:
        for _round in range(2):
            wait_for_progress(ledger, RECORDS_BEFORE)
            product.start("writer-3")
            wait_for_progress(ledger, RECORDS_BEFORE)
            assert product.stop("writer-2") == 0
            wait_until_stored(product, ledger, run, TAKEOVER_SECONDS_MAX)
            product.start("writer-2")
            assert product.stop("writer-3") == 0
            wait_until_stored(product, ledger, run, TAKEOVER_SECONDS_MAX)
    check_that_each_is_stored_once(product, ledger, run)


def test_F13_F15_a_writer_that_is_killed_is_replaced_in_time(product: Product) -> None:
    run = "run/takeover/"
    with load_on_all(product, run) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        product.kill("writer-2")
        wait_until_stored(product, ledger, run, TAKEOVER_SECONDS_MAX)
        product.start("writer-2")
        wait_for_progress(ledger, RECORDS_AFTER)
    check_that_each_is_stored_once(product, ledger, run)


@pytest.mark.parametrize("point", ["writer.before_insert", "writer.after_insert_before_commit"])
def test_F11_F13_another_writer_repeats_the_plan_of_a_dead_one(
    product: Product, point: str
) -> None:
    run = f"run/other-{point}/"
    with load_on_all(product, run) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        product.kill("writer-2")
        product.start("writer-2", crash_at=f"{point}:2")
        product.wait_until_ended("writer-2")
        wait_until_stored(product, ledger, run, TAKEOVER_SECONDS_MAX + SESSION_SECONDS)
    check_that_each_is_stored_once(product, ledger, run)


@pytest.mark.parametrize("seed", [1, 2])
def test_F17_a_writer_that_was_frozen_past_its_session_does_no_harm(
    product: Product, seed: int
) -> None:
    run = f"run/F17-{seed}/"
    chance = random.Random(seed)
    with load_on_all(product, run) as ledger:
        for _round in range(2):
            wait_for_progress(ledger, RECORDS_BEFORE)
            # Not synchronisation: any moment of the work on a plan will do.
            time.sleep(chance.uniform(0, 0.3))
            product.pause("writer")
            time.sleep(SESSION_SECONDS + 1.0)
            wait_until_stored(product, ledger, run, TAKEOVER_SECONDS_MAX)
            product.resume("writer")
            wait_for_progress(ledger, RECORDS_BEFORE)
    check_that_each_is_stored_once(product, ledger, run)


def test_F67_one_request_sent_to_two_gateways_at_once_is_stored_once(product: Product) -> None:
    run = "run/F67/"
    bodies = [[f"{run}{number}/{part}" for part in range(3)] for number in range(100)]
    requests = [request_of(each, time.time_ns()) for each in bodies]

    def post(port: int, request: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            headers = {"Content-Type": "application/x-protobuf"}
            connection.request("POST", "/v1/logs", request, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        answers = [
            threads.submit(post, port, request)
            for request in requests
            for port in product.http_ports
        ]
        assert {answer.result() for answer in answers} == {200}
    ledger = Ledger()
    for each in bodies:
        ledger.note_sent(each)
        ledger.note_acknowledged(each)
    check_that_each_is_stored_once(product, ledger, run)


@pytest.mark.parametrize("point", ["log.after_commit", "gateway.after_ack_before_reply"])
def test_F04_what_another_gateway_takes_again_is_stored_once(product: Product, point: str) -> None:
    run = f"run/F04-{point}/"
    with load_on_all(product, run) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        product.kill("ingest")
        product.start("ingest", crash_at=f"{point}:5")
        product.wait_until_ended("ingest")
        wait_for_progress(ledger, RECORDS_AFTER)
        product.start("ingest")
    assert ledger.unsure
    check_that_each_is_stored_once(product, ledger, run)


def test_F07_what_a_frozen_gateway_appends_late_is_stored_once(product: Product) -> None:
    run = "run/F07/"
    with load_on_all(product, run) as ledger:
        wait_for_progress(ledger, RECORDS_BEFORE)
        product.pause("ingest")
        # Longer than a client waits for its answer.
        time.sleep(11)
        product.resume("ingest")
        wait_for_progress(ledger, RECORDS_AFTER)
    assert ledger.unsure
    check_that_each_is_stored_once(product, ledger, run)


def test_F58_a_rolling_restart_of_everything_loses_no_request(product: Product) -> None:
    run = "run/F58/"
    with load_on_all(product, run) as ledger:
        for name in ("ingest", "ingest-2", "writer", "writer-2"):
            wait_for_progress(ledger, RECORDS_BEFORE)
            assert product.stop(name) == 0
            product.start(name)
        wait_for_progress(ledger, RECORDS_AFTER)
    check_that_each_is_stored_once(product, ledger, run)


def test_F23_a_broker_that_dies_and_hangs_under_load(own_broker: StartBroker) -> None:
    broker = own_broker()
    run = "run/F23/"
    with Product(broker.data.parent / "product", kafka_settings(broker)) as product:
        with load(product.http_port, run) as ledger:
            for _round in range(2):
                wait_for_progress(ledger, RECORDS_BEFORE)
                broker.kill()
                broker.start()
                started = time.monotonic()
                wait_for_progress(ledger, RECORDS_BEFORE)
                wait_until_stored(product, ledger, run, RECOVERY_SECONDS_MAX)
                assert time.monotonic() - started < RECOVERY_SECONDS_MAX
            broker.pause()
            time.sleep(SESSION_SECONDS + 2)
            broker.resume()
            wait_for_progress(ledger, RECORDS_AFTER)
            wait_until_stored(product, ledger, run, RECOVERY_SECONDS_MAX)
        check_that_each_is_stored_once(product, ledger, run)


def test_F23_without_a_broker_clients_are_told_in_time(own_broker: StartBroker) -> None:
    broker = own_broker()
    with Product(broker.data.parent / "product", kafka_settings(broker)) as product:
        assert status_of_a_post(product, "before")[0] == 200
        broker.kill()
        with ThreadPoolExecutor(20) as threads:
            for _round in range(3):
                posts = [
                    threads.submit(status_of_a_post, product, f"{_round}/{number}")
                    for number in range(20)
                ]
                for status, seconds in (post.result() for post in posts):
                    assert status == 503
                    assert seconds <= TOLD_SECONDS_MAX
        # Once it is known that nothing goes, nobody has to wait for that.
        assert status_of_a_post(product, "after")[1] < 1
        assert get_status(product.http_port, "/readyz") == 503
        broker.start()
        wait_for(
            "an acknowledgement",
            lambda: status_of_a_post(product, "again")[0] == 200,
            RECOVERY_SECONDS_MAX,
        )
        wait_for("readiness", lambda: get_status(product.http_port, "/readyz") == 200, 10)


def status_of_a_post(product: Product, body: str) -> tuple[int, float]:
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", product.http_port, timeout=30)
    try:
        headers = {"Content-Type": "application/x-protobuf"}
        request = request_of([f"run/told/{body}"], time.time_ns())
        connection.request("POST", "/v1/logs", request, headers)
        return connection.getresponse().status, time.monotonic() - started
    finally:
        connection.close()


def get_status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_F21_F25_leaders_that_die_in_turn_under_load(kafka_cluster: Cluster) -> None:
    run = "run/F21/"
    data = kafka_cluster.nodes[1].data.parent.parent / "product"
    settings = kafka_settings(kafka_cluster, TELEMETRYFLOW_ENV="production")
    with Product(data, settings) as product:
        with load(product.http_port, run) as ledger:
            for node in kafka_cluster.nodes.values():
                wait_for_progress(ledger, RECORDS_BEFORE)
                node.kill()
                wait_for_progress(ledger, RECORDS_BEFORE)
                node.start()
            wait_for_progress(ledger, RECORDS_AFTER)
        check_that_each_is_stored_once(product, ledger, run)


def test_F60_F62_answers_of_kafka_that_are_lost_and_a_broker_out_of_reach(
    own_broker: StartBroker,
) -> None:
    (port,) = free_ports(1)
    broker = own_broker(advertised_port=port)
    proxy = LossyProxy(port, broker.port)
    run = "run/F60/"
    with (
        running(proxy),
        Product(broker.data.parent / "product", kafka_settings(broker)) as product,
    ):
        with load(product.http_port, run) as ledger:
            for _round in range(3):
                wait_for_progress(ledger, RECORDS_BEFORE)
                proxy.losing = True
                time.sleep(0.5)
                proxy.losing = False
                wait_for_progress(ledger, RECORDS_BEFORE)
                proxy.hold()
                time.sleep(SESSION_SECONDS + 1)
                proxy.release()
            wait_for_progress(ledger, RECORDS_AFTER)
            wait_until_stored(product, ledger, run, RECOVERY_SECONDS_MAX)
        assert proxy.lost
        check_that_each_is_stored_once(product, ledger, run)
