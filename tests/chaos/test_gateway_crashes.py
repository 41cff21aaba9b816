"""Processes killed under load, at named points and at any time: nothing acknowledged is lost,
nothing is stored twice, however often it was sent."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tests.chaos.kafka_products import kafka_settings
from tests.chaos.load import Ledger, load
from tests.e2e.processes import Product, wait_for

PROCESSES: Final = ("ingest", "writer", "clickhouse")
RECORDS_BEFORE: Final = 60
RECORDS_AFTER: Final = 120
PROGRESS_SECONDS_MAX: Final = 60
NEMESIS_KILLS: Final = 5
NEMESIS_SEEDS: Final = (1, 2)
SETTLED_SECONDS_MAX: Final = 40
COPIES_SQL: Final = """
    SELECT Body AS body, count() AS copies FROM tf_logs
    WHERE startsWith(Body, {run:String}) GROUP BY Body
"""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def product(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    settings = {}
    if request.param == "kafka":
        settings = kafka_settings(request.getfixturevalue("kafka"))
    with Product(tmp_path_factory.mktemp("crashes"), settings) as started:
        yield started


def wait_for_progress(ledger: Ledger, records: int) -> None:
    """Returns when that many more records were acknowledged."""
    target = len(ledger.acknowledged) + records
    wait_for(
        f"{records} more acknowledged records ({ledger.retries} retries)",
        lambda: len(ledger.acknowledged) >= target,
        PROGRESS_SECONDS_MAX,
    )


def check_that_each_is_stored_once(product: Product, ledger: Ledger, run: str) -> None:
    """Also what was sent again because a crash had swallowed the answer (I9)."""
    assert ledger.refusals == []
    assert ledger.acknowledged == ledger.sent
    copies: dict[str, int] = {}

    def all_arrived() -> bool:
        rows = product.rows(COPIES_SQL, run=run)
        copies.clear()
        copies.update((row["body"], int(row["copies"])) for row in rows)
        return ledger.acknowledged <= copies.keys()

    wait_for("every acknowledged record in ClickHouse", all_arrived, SETTLED_SECONDS_MAX)
    assert copies.keys() <= ledger.sent
    assert {body: count for body, count in copies.items() if count != 1} == {}


def crash_under_load(product: Product, name: str, point: str, run: str) -> Ledger:
    """Restarts *name* with a crash point under load, lets it crash, and restarts it."""
    with load(product.http_port, run) as ledger, ExitStack() as stack:
        wait_for_progress(ledger, RECORDS_BEFORE)
        product.kill(name)
        stack.callback(restart_if_gone, product, name)
        product.start(name, crash_at=point)
        product.wait_until_ended(name)
        product.start(name)
        wait_for_progress(ledger, RECORDS_AFTER)
    return ledger


def restart_if_gone(product: Product, name: str) -> None:
    """So that a test which failed leaves the product to the next one as it found it."""
    if product.has_ended(name):
        product.start(name)


@pytest.mark.parametrize(
    "point",
    [
        "gateway.after_auth",
        "gateway.before_produce",
        "log.before_commit",
        "log.after_commit",
        "gateway.after_produce",
        "gateway.after_ack_before_reply",
    ],
)
def test_F01_to_F04_a_gateway_that_dies_loses_and_doubles_nothing(
    product: Product, point: str
) -> None:
    run = f"run/{point}/"
    ledger = crash_under_load(product, "ingest", f"{point}:5", run)
    # Else nobody had to send again, and the test says nothing.
    assert ledger.unsure
    check_that_each_is_stored_once(product, ledger, run)


@pytest.mark.parametrize(
    "point",
    [
        "writer.after_poll",
        "writer.after_plan_commit",
        "writer.before_insert",
        "writer.after_insert_before_commit",
        "writer.after_commit",
    ],
)
def test_F10_to_F14_a_writer_that_dies_loses_and_doubles_nothing(
    product: Product, point: str
) -> None:
    run = f"run/{point}/"
    ledger = crash_under_load(product, "writer", f"{point}:2", run)
    # No client noticed anything.
    assert ledger.unsure == set()
    check_that_each_is_stored_once(product, ledger, run)


@pytest.mark.parametrize("name", PROCESSES)
def test_F05_F38_a_process_that_is_killed_under_load_loses_and_doubles_nothing(
    product: Product, name: str
) -> None:
    run = f"run/kill-{name}/"
    with load(product.http_port, run) as ledger:
        for _time in range(2):
            wait_for_progress(ledger, RECORDS_BEFORE)
            product.kill(name)
            product.start(name)
        wait_for_progress(ledger, RECORDS_AFTER)
    check_that_each_is_stored_once(product, ledger, run)


@pytest.mark.parametrize("seed", NEMESIS_SEEDS)
def test_F15_any_order_of_kills_loses_and_doubles_nothing(product: Product, seed: int) -> None:
    chance = random.Random(seed)
    run = f"run/nemesis-{seed}/"
    with load(product.http_port, run) as ledger, ExitStack() as stack:
        for name in PROCESSES:
            stack.callback(restart_if_gone, product, name)
        for _kill in range(NEMESIS_KILLS):
            victims = chance.sample(PROCESSES, chance.choice((1, 1, 1, 2, 3)))
            for name in victims:
                product.kill(name)
            # Not synchronisation: how long the outage lasts, and how long the load runs between.
            time.sleep(chance.uniform(0, 0.5))
            for name in PROCESSES[::-1]:
                if name in victims:
                    product.start(name)
            time.sleep(chance.uniform(0, 1.0))
        wait_for_progress(ledger, RECORDS_AFTER)
    check_that_each_is_stored_once(product, ledger, run)
