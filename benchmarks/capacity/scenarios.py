"""What is measured. Each scenario takes the bench and records figures by name."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.capacity import servers
from benchmarks.capacity.inserts import insert_seconds
from benchmarks.capacity.load import Options
from benchmarks.capacity.measure import Figures, Stored, figures_of, measure, send
from benchmarks.capacity.servers import Server
from benchmarks.capacity.visibility import Visibility
from benchmarks.capacity.writers import writer_rounds
from benchmarks.payloads import SIGNALS
from tests.chaos.kafka_products import kafka_settings
from tests.e2e.processes import Product
from tests.kafka.broker import Broker
from tests.kafka.topics import create_topic

# Items a request -> requests a round, connections and streams of each over gRPC.
LOADS: Final = {
    1: (30_000, 16, 20),
    50: (6_000, 16, 4),
    500: (600, 8, 4),
    5_000: (60, 4, 2),
}
HTTP_CONNECTIONS: Final = 64
EXPORTER_TABLE: Final = Path(__file__).with_name("exporter_traces.sql")
MESSAGE_BYTES_MAX: Final = 16_000_000
# Items a second: the first step of the ramp, how much more each next one has, and the last.
RAMP_FIRST: Final = 40_000.0
RAMP_GROWTH: Final = 1.25
RAMP_LAST: Final = 10e6
RAMP_SECONDS: Final = 4.0
VISIBLE_SECONDS: Final = 20.0
# A machine that paused for something else is no limit of the gateway.
RAMP_TRIES: Final = 2
# Answers that come later than this lag: clients would come to wait for each other.
LAG_MS: Final = 250.0
# Parts of what the gateway was found to carry.
HALF: Final = 0.5
OVERLOAD: Final = 3.0
TENANTS: Final = 50
NOT_MEASURED: Final = {
    "Collector, Kafka → ClickHouse": (
        "its client (clickhouse-go over HTTP) asks for Native blocks of a protocol version that "
        "the embedded engine does not write, and ends at its start with 'failed to query server "
        "hello: block decode'"
    ),
}


@dataclass
class Bench:
    """Where figures are collected; `size` scales the number of requests."""

    folder: Path
    collector: Path | None = None
    rounds: int = 3
    size: float = 1.0
    soak_seconds: float = 0.0
    figures: dict[str, Figures] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    _folders: int = 0

    def new_folder(self) -> Path:
        """A folder of its own."""
        self._folders += 1
        made = self.folder / str(self._folders)
        made.mkdir()
        return made

    def load(self, server: Server, transport: str, items: int = 500, **more: Any) -> Options:
        """The usual load of requests of *items* items."""
        requests, connections, streams = LOADS[items]
        if transport == "http":
            connections, streams = min(HTTP_CONNECTIONS, connections * streams), 1
        options = Options(
            transport=transport,
            port=server.port(transport),
            items=items,
            requests=max(20, int(requests * self.size)),
            connections=connections,
            streams=streams,
        )
        return replace(options, **more)

    def measure(
        self, name: str, server: Server, options: Options, stored: Stored | None = None
    ) -> Figures:
        """Measures under that load and keeps the figures under *name*."""
        return self.keep(name, measure(options, server.pids, rounds=self.rounds, stored=stored))

    def keep(self, name: str, figures: Figures) -> Figures:
        """Keeps and prints what was measured under *name*."""
        self.figures[name] = figures
        cpu = ", ".join(f"{process} {cost:.2f}" for process, cost in figures.cpu.items())
        load = f"{figures.bytes_an_item:.0f} B/item, generator {figures.generator_cpu:.2f}"
        print(f"  {name:<52} {cpu}  ({figures.answered}, {load})", flush=True)
        return figures


def receive_only(bench: Bench) -> None:
    """Our receivers, with nothing and with the codec behind them."""
    for engine in ("grpc", "http"):
        with servers.receiver(engine, "nothing") as server:
            for items in (1, 500):
                load = bench.load(server, engine, items)
                figures = bench.measure(f"receive/{engine}/traces/{items}", server, load)
            # The last had 500 spans a request, and nothing behind the receiver.
            name = f"load generator over {engine}, spans a second from one core"
            bench.values[name] = 1e6 / figures.generator_cpu
        with servers.receiver(engine, "decode") as server:
            for signal in SIGNALS:
                load = bench.load(server, engine, signals=(signal,))
                bench.measure(f"receive+decode/{engine}/{signal}/500", server, load)
            load = bench.load(server, engine, 1)
            bench.measure(f"receive+decode/{engine}/traces/1", server, load)


def peers(bench: Bench) -> None:
    """What one would use instead, under the same load."""
    with servers.receiver("grpcio", "decode") as server:
        small = bench.load(server, "grpc", 1, requests=int(2_000 * bench.size) or 1)
        bench.measure("grpc.aio+decode/grpc/traces/500", server, bench.load(server, "grpc"))
        bench.measure("grpc.aio+decode/grpc/traces/1", server, small)
    with servers.receiver("http", "reference") as server:
        load = bench.load(server, "http", requests=8)
        bench.measure("plain Python/http/traces/500", server, load)
    with servers.rotel(bench.new_folder()) as server:
        _peer(bench, "rotel → black hole", server)
    bench.missing |= NOT_MEASURED
    if bench.collector is None:
        bench.missing["OpenTelemetry Collector"] = "no binary: pass --collector FILE"
        return
    with servers.collector(bench.collector, bench.new_folder(), servers.DEBUG_EXPORTER) as server:
        _peer(bench, "collector → debug", server)


def _peer(bench: Bench, name: str, server: Server) -> None:
    for transport in ("grpc", "http"):
        for items in (1, 500):
            load = bench.load(server, transport, items)
            bench.measure(f"{name}/{transport}/traces/{items}", server, load)
        for signal in ("logs", "metrics"):
            load = bench.load(server, transport, signals=(signal,))
            bench.measure(f"{name}/{transport}/{signal}/500", server, load)


def gateway_to_embedded_log(bench: Bench) -> None:
    """The gateway as it is deployed on one machine."""
    with servers.gateway(bench.new_folder(), {}) as server:
        for transport in ("grpc", "http"):
            for signal in SIGNALS:
                load = bench.load(server, transport, signals=(signal,))
                bench.measure(f"gateway → embedded log/{transport}/{signal}/500", server, load)
            for items in (1, 50):
                load = bench.load(server, transport, items)
                bench.measure(f"gateway → embedded log/{transport}/traces/{items}", server, load)
        large = bench.load(server, "http", 5_000)
        bench.measure("gateway → embedded log/http/traces/5000", server, large)
        mixed = bench.load(server, "grpc", signals=SIGNALS)
        bench.measure("gateway → embedded log/grpc/all signals/500", server, mixed)
        packed = bench.load(server, "http", compressed=True)
        bench.measure("gateway → embedded log/http gzip/traces/500", server, packed)
        json = bench.load(server, "http", encoding="json")
        bench.measure("gateway → embedded log/http JSON/traces/500", server, json)
    with servers.gateway(bench.new_folder(), {"INGEST_COMPRESSION": "lz4"}) as server:
        load = bench.load(server, "grpc")
        bench.measure("gateway → embedded log, lz4/grpc/traces/500", server, load)


def workers_and_tenants(bench: Bench) -> None:
    """Two gateway processes on the same ports; requests of many tenants in the same blocks."""
    with servers.gateway(bench.new_folder(), {"INGEST_WORKERS": "2"}) as server:
        bench.measure("gateway, 2 workers/grpc/traces/500", server, bench.load(server, "grpc"))
    directory, keys = servers.tenants_and_keys(TENANTS)
    settings = {"API_KEY_PEPPER": servers.PEPPER, "THROTTLE_INGESTION_LIMIT": "0"}
    with servers.gateway(bench.new_folder(), settings, directory) as server:
        for items in (50, 500):
            load = bench.load(server, "http", items, keys=keys, connections=TENANTS)
            bench.measure(f"gateway, {TENANTS} tenants/http/traces/{items}", server, load)


@contextmanager
def _broker(bench: Bench) -> Iterator[Broker]:
    broker = Broker(bench.new_folder() / "kafka")
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


def gateway_to_kafka(bench: Bench) -> None:
    """The gateway of a cluster, acks=all, and the Collector's way there."""
    with _broker(bench) as broker:
        settings = kafka_settings(broker, KAFKA_PARTITIONS="1")
        with servers.gateway(bench.new_folder(), settings) as server:
            for transport in ("grpc", "http"):
                load = bench.load(server, transport)
                bench.measure(f"gateway → Kafka/{transport}/traces/500", server, load)
            for signal in ("logs", "metrics"):
                load = bench.load(server, "grpc", signals=(signal,))
                bench.measure(f"gateway → Kafka/grpc/{signal}/500", server, load)
            load = bench.load(server, "grpc", 1)
            bench.measure("gateway → Kafka/grpc/traces/1", server, load)
        if bench.collector is None:
            return
        limit = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}
        topic = asyncio.run(create_topic(broker.bootstrap, config=limit))
        exporter = servers.kafka_exporter(broker.bootstrap, topic)
        with servers.collector(bench.collector, bench.new_folder(), exporter) as server:
            load = bench.load(server, "grpc")
            bench.measure("collector → Kafka/grpc/traces/500", server, load)


def writer_and_insert(bench: Bench) -> None:
    """The whole way to queryable rows: who spends what, and how many rows a second."""
    for log in ("embedded log", "Kafka"):
        with ExitStack() as stack:
            settings = {"WRITER_BATCH_WAIT_MS": "1000"}
            if log == "Kafka":
                settings |= kafka_settings(
                    stack.enter_context(_broker(bench)), KAFKA_PARTITIONS="1"
                )
            product, server = stack.enter_context(servers.product(bench.new_folder(), settings))
            for signal in SIGNALS if log == "embedded log" else ("traces",):
                load = bench.load(server, "grpc", signals=(signal,))
                stored = servers.Stored(product, signal)
                name = f"end to end, {log}/grpc/{signal}/500"
                bench.measure(name, server, load, stored)
                queryable = bench.values[f"{name}, rows a second queryable"] = median(
                    stored.rows_a_second
                )
                if signal == "traces":
                    _visible(bench, log, product, server, queryable * HALF)


def rotel_to_clickhouse(bench: Bench) -> None:
    """Rotel, and the same engine with the tables of its exporter."""
    with (
        servers.engine(bench.new_folder()) as product,
        servers.rotel(
            bench.new_folder(),
            servers.rotel_to_clickhouse(int(product.settings["CLICKHOUSE_PORT"])),
        ) as rotel,
    ):
        product.rows("CREATE DATABASE otel")
        product.rows(EXPORTER_TABLE.read_text())
        pids = {**rotel.pids, "clickhouse": product.pid("clickhouse")}
        server = replace(rotel, pids=pids)
        stored = servers.Stored(product, "traces of an exporter")
        name = "end to end, Rotel/grpc/traces/500"
        bench.measure(name, server, bench.load(server, "grpc"), stored)
        bench.values[f"{name}, rows a second queryable"] = median(stored.rows_a_second)


def writer_alone(bench: Bench) -> None:
    """The writer, from a log that is full to an engine that swallows."""
    for log in ("embedded log", "Kafka"):
        with ExitStack() as stack:
            settings = {"WRITER_BATCH_WAIT_MS": "1000"}
            if log == "Kafka":
                broker = stack.enter_context(_broker(bench))
                settings |= kafka_settings(broker, KAFKA_PARTITIONS="1")
            rounds = writer_rounds(
                bench.new_folder(), settings, rounds=bench.rounds, size=bench.size
            )
            bench.keep(f"writer alone, {log}/traces", figures_of(rounds, items_a_request=500))


def insert_alone(bench: Bench) -> None:
    """What the engine spends on rows, by how many come at once."""
    for signal in SIGNALS:
        for rows, seconds in insert_seconds(bench.new_folder(), signal, bench.size).items():
            name = f"INSERT of {signal}, {rows:,} rows at once, CPU seconds per million"
            bench.values[name] = seconds
            print(f"  {name:<60} {seconds:.2f}")


def latency_against_load(bench: Bench) -> None:
    """A gateway on the embedded log: its load is raised until answers lag or are refused.

    Then half of what it was found to carry, and three times as much.
    """
    with servers.gateway(bench.new_folder(), {}) as server:
        bench.measure("warm/grpc/traces/500", server, bench.load(server, "grpc"))
        capacity, rate = 0.0, RAMP_FIRST
        while rate <= RAMP_LAST:
            name = f"ramp, {rate:,.0f} a second/grpc/traces/500"
            tries = (_at_rate(bench, name, server, rate, RAMP_SECONDS) for _ in range(RAMP_TRIES))
            if not any(map(_keeps_up, tries)):
                break
            capacity, rate = rate, rate * RAMP_GROWTH
        bench.values["gateway on the embedded log, spans a second carried"] = capacity
        for part in (HALF, OVERLOAD) if capacity else ():
            name = f"load {part:.0%}/grpc/traces/500"
            _at_rate(bench, name, server, capacity * part, 3 * RAMP_SECONDS)


def _at_rate(
    bench: Bench, name: str, server: Server, items_a_second: float, seconds: float
) -> Figures:
    """An open loop of so many items a second."""
    load = bench.load(server, "grpc")
    rate, seconds = items_a_second / load.items, seconds * bench.size
    options = replace(
        load,
        rate=rate,
        requests=int(rate * seconds) or 1,
        seconds_max=seconds,
        connections=16,
        streams=32,
    )
    figures = bench.figures[name] = measure(options, server.pids, rounds=1)
    latency = ", ".join(f"{key} {ms:.1f} ms" for key, ms in figures.latency_ms.items())
    print(f"  {name:<52} {latency} {figures.answered} not sent {figures.dropped}", flush=True)
    return figures


def _visible(
    bench: Bench, log: str, product: Product, server: Server, items_a_second: float
) -> None:
    """How soon data can be queried, at half of what could be on the whole way."""
    with Visibility(product) as visibility:
        name = f"load {HALF:.0%} of end to end, {log}/grpc/traces/500"
        figures = _at_rate(bench, name, server, items_a_second, VISIBLE_SECONDS)
    figures.visible_ms = visibility.milliseconds()
    said = ", ".join(f"{key} {ms:.0f} ms" for key, ms in figures.visible_ms.items())
    print(f"  {'visible after the answer':<52} {said}", flush=True)


def _keeps_up(figures: Figures) -> bool:
    """Whether all that was due was answered with success, and in time."""
    accepted = figures.answered.keys() == {"ok"} and not figures.dropped
    return accepted and figures.latency_ms["p99"] <= LAG_MS


def soak(bench: Bench) -> None:
    """A gateway at half load for a long time: does its memory grow?"""
    if not bench.soak_seconds:
        return
    with servers.gateway(bench.new_folder(), {}) as server:
        load = bench.load(server, "grpc")
        most = bench.measure("soak, capacity/grpc/traces/500", server, load).items_a_second
        rate = most / 2 / load.items
        readings = []
        until = time.monotonic() + bench.soak_seconds
        while time.monotonic() < until:
            seconds = min(30.0, max(1.0, until - time.monotonic()))
            send(replace(load, rate=rate, requests=int(rate * seconds) or 1, seconds_max=seconds))
            readings.append((time.monotonic(), servers.rss_of(server)))
        # Half of it fills what is remembered: five minutes of requests, in ten minutes of soak.
        half = readings[len(readings) // 2 :]
        (first, before), (last, after) = half[0], half[-1]
        grown_mb, hours = (after - before) / 1e6, max(last - first, 1.0) / 3600
        bench.values["soak, resident MB at its start"] = readings[0][1] / 1e6
        bench.values["soak, resident MB half way"] = before / 1e6
        bench.values["soak, resident MB at its end"] = after / 1e6
        bench.values["soak, resident MB an hour in its second half"] = grown_mb / hours


ALL: Final[dict[str, Callable[[Bench], None]]] = {
    "receive": receive_only,
    "peers": peers,
    "embedded": gateway_to_embedded_log,
    "tenants": workers_and_tenants,
    "kafka": gateway_to_kafka,
    "insert": insert_alone,
    "writer": writer_alone,
    "pipeline": writer_and_insert,
    "rotel": rotel_to_clickhouse,
    "latency": latency_against_load,
    "soak": soak,
}
