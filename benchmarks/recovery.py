"""How long everything takes to flow again after a crash: `python -m benchmarks.recovery`.

The product on Kafka (one gateway, two writers, one broker) and the embedded ClickHouse. For each
victim: SIGKILL, a restart at once (but not of the writer that another one replaces), then fresh
requests until one is acknowledged, and until its rows are stored. Printed are seconds after the
kill; medians over rounds. Needs the development environment and Java.
"""

import argparse
import http.client
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from tests.chaos.kafka_products import kafka_settings
from tests.chaos.load import request_of
from tests.e2e.processes import Product
from tests.kafka.broker import Broker

SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.02
# Requests per look, so that each partition gets some.
REQUESTS: Final = 12


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.recovery", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = Broker(folder / "kafka")
        stack.callback(broker.kill)
        broker.start()
        # The session timeout that the product has by default.
        settings = kafka_settings(broker, WRITER_SESSION_TIMEOUT_MS="6000")
        product = stack.enter_context(Product(folder / "product", settings, writers=2))
        victims = _victims(product, broker)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in victims}
        for number in range(rounds):
            for name, (kill, mend) in victims.items():
                _flows(product, f"before {name} {number}")
                started = time.monotonic()
                kill()
                acked, stored = _flows(product, f"after {name} {number}")
                found[name].append((acked - started, stored - started))
                mend()
    print("seconds after the kill until fresh data is acknowledged, and stored (median, longest):")
    for name, times in found.items():
        acks, stores = zip(*times, strict=True)
        print(
            f"  {name:<28} {median(acks):5.1f} {max(acks):5.1f}   "
            f"{median(stores):5.1f} {max(stores):5.1f}"
        )


def _victims(
    product: Product, broker: Broker
) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    def restarted(name: str) -> Callable[[], None]:
        def restart() -> None:
            product.kill(name)
            product.start(name)

        return restart

    def restart_broker() -> None:
        broker.kill()
        broker.start()

    def nothing() -> None:
        return None

    return {
        "gateway, restarted": (restarted("ingest"), nothing),
        "writer, restarted": (restarted("writer"), nothing),
        "writer, replaced by another": (
            lambda: product.kill("writer-2"),
            lambda: product.start("writer-2"),
        ),
        "ClickHouse, restarted": (restarted("clickhouse"), nothing),
        "broker, restarted": (restart_broker, nothing),
    }


def _flows(product: Product, run: str) -> tuple[float, float]:
    """When fresh requests of all partitions were acknowledged, and when they were stored."""
    deadline = time.monotonic() + SECONDS_MAX
    bodies = [f"{run}/{time.monotonic_ns()}/{number}" for number in range(REQUESTS)]
    for body in bodies:
        while not _acknowledged(product.http_port, body):
            assert time.monotonic() < deadline, f"{run}: not acknowledged"
            time.sleep(POLL_SECONDS)
    acknowledged_at = time.monotonic()
    sql = "SELECT count() AS rows FROM tf_logs WHERE startsWith(Body, {run:String})"
    while True:
        try:
            if int(product.rows(sql, run=f"{run}/")[0]["rows"]) >= REQUESTS:
                return acknowledged_at, time.monotonic()
        except (OSError, AssertionError):
            pass  # ClickHouse is not there yet
        assert time.monotonic() < deadline, f"{run}: not stored"
        time.sleep(POLL_SECONDS)


def _acknowledged(port: int, body: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": "application/x-protobuf"}
        connection.request("POST", "/v1/logs", request_of([body], time.time_ns()), headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main()
