"""From the embedded log to Kafka, as an operator does it."""

from pathlib import Path

from tests.chaos.kafka_products import kafka_settings
from tests.chaos.load import load
from tests.chaos.test_gateway_crashes import (
    RECORDS_BEFORE,
    check_that_each_is_stored_once,
    wait_for_progress,
)
from tests.e2e.processes import Product
from tests.kafka.broker import Broker


def test_what_the_embedded_log_holds_is_moved_into_kafka(kafka: Broker, tmp_path: Path) -> None:
    run = "run/drain/"
    with Product(tmp_path) as product:
        with load(product.http_port, run) as ledger:
            wait_for_progress(ledger, RECORDS_BEFORE)
            # Dies with a plan that is stored and not committed.
            product.kill("writer")
            product.start("writer", crash_at="writer.after_insert_before_commit:2")
            product.wait_until_ended("writer")
            wait_for_progress(ledger, RECORDS_BEFORE)
        assert product.stop("ingest") == 0
        product.settings.update(kafka_settings(kafka))
        assert "records moved into Kafka" in product.command("drain")
        assert "0 records moved" in product.command("drain")
        product.start("ingest")
        product.start("writer")
        with load(product.http_port, f"{run}later/") as later:
            wait_for_progress(later, RECORDS_BEFORE)
        check_that_each_is_stored_once(product, later, f"{run}later/")
        sql = "SELECT count() AS rows, uniqExact(Body) AS bodies FROM tf_logs"
        (row,) = product.rows(sql)
        everything = len(ledger.acknowledged) + len(later.acknowledged)
        assert (int(row["rows"]), int(row["bodies"])) == (everything, everything)
