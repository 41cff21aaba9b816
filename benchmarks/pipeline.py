"""CPU of gateway and writer over the whole way: `python -m benchmarks.pipeline [--log kafka]`.

Real processes, one gateway, one writer, the embedded ClickHouse; 500-item requests over HTTP from
this process until all is stored. Printed are CPU seconds per million items of each process, which
travel between machines better than times; medians over rounds. Needs the development environment
(and Java for Kafka: one broker on this machine, acks=all, no replicas).
"""

import argparse
import http.client
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

import psutil

from benchmarks.payloads import SIGNALS, requests
from tests.chaos.kafka_products import kafka_settings
from tests.e2e.processes import Product, wait_for
from tests.kafka.broker import Broker

ITEMS: Final = 500
CLIENTS: Final = 4
STORED_SECONDS_MAX: Final = 180
ROWS_OF: Final = {
    "traces": "SELECT count() AS rows FROM tf_traces",
    "logs": "SELECT count() AS rows FROM tf_logs",
    "metrics": "SELECT sum(rows) AS rows FROM (SELECT count() AS rows FROM merge('^tf_metrics_"
    "(gauge|sum|histogram|exponential_histogram|summary)$'))",
}


def main() -> None:
    """Measure and print a table."""
    options = _parser().parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = {"WRITER_BATCH_WAIT_MS": "1000"}
        pids: dict[str, int] = {}
        if options.log == "kafka":
            broker = Broker(folder / "kafka")
            stack.callback(broker.kill)
            broker.start()
            pids["broker"] = broker.pid
            settings |= kafka_settings(broker, KAFKA_PARTITIONS=str(options.partitions))
        product = stack.enter_context(Product(folder / "product", settings))
        pids |= {name: product.pid(name) for name in ("ingest", "writer", "clickhouse")}
        rounds = options.rounds + 1
        count = options.requests * rounds
        # All are distinct: what was sent before would be recognised as a repeat.
        bodies = requests(options.signal, items=ITEMS, count=count, now_ns=time.time_ns())
        figures: dict[str, list[float]] = {name: [] for name in pids}
        for number in range(rounds):
            part = bodies[number * options.requests : (number + 1) * options.requests]
            used = _measure(product, options.signal, part, pids)
            if number:  # the first warms up
                for name, seconds in used.items():
                    figures[name].append(seconds * 1e6 / (ITEMS * options.requests))
        print(f"{options.signal}, log {options.log}, CPU seconds per million items:")
        for name, found in figures.items():
            print(f"  {name:<10} {median(found):.2f}   ({min(found):.2f} to {max(found):.2f})")


def _measure(
    product: Product, signal: str, bodies: Sequence[bytes], pids: dict[str, int]
) -> dict[str, float]:
    before = {name: _cpu_seconds(pid) for name, pid in pids.items()}
    target = _stored(product, signal) + ITEMS * len(bodies)
    threads = [
        threading.Thread(target=_send, args=(product.http_port, signal, bodies[start::CLIENTS]))
        for start in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for("everything stored", lambda: _stored(product, signal) >= target, STORED_SECONDS_MAX)
    return {name: _cpu_seconds(pid) - before[name] for name, pid in pids.items()}


def _send(port: int, signal: str, bodies: Sequence[bytes]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for body in bodies:
        headers = {"Content-Type": "application/x-protobuf"}
        connection.request("POST", f"/v1/{signal}", body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    connection.close()


def _stored(product: Product, signal: str) -> int:
    return int(product.rows(ROWS_OF[signal])[0]["rows"])


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.pipeline", description=__doc__)
    parser.add_argument("--log", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--signal", choices=SIGNALS, default="traces")
    parser.add_argument("--partitions", type=int, default=1, help="of each topic in Kafka")
    parser.add_argument("--requests", type=int, default=400, help="per round, 500 items each")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


if __name__ == "__main__":
    main()
