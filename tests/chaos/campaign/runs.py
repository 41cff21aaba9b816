"""One product under fire, seed after seed, and the verdict on each."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shared.directory.directory_pb2 import Limits
from shared.directory.state import DirectoryState
from shared.security.peppers import Peppers
from tests.chaos.campaign.bodies import ID_ATTRIBUTE, TENANT_ATTRIBUTE
from tests.chaos.campaign.clients import Clients, Sender, Tally
from tests.chaos.campaign.health import health
from tests.chaos.campaign.nemesis import Nemesis
from tests.chaos.kafka_products import SESSION_SECONDS, kafka_settings
from tests.directory_states import add_key, state_of
from tests.e2e.processes import Product
from tests.kafka.broker import Broker
from tests.kafka.proxy import LossyProxy, running
from tests.ports import free_ports

# About as long as a fault takes: clients spread their items over that.
SECONDS_PER_FAULT: Final = 2.5
RUN_SECONDS_MAX: Final = 150.0
# I13: from the last fault on.
RECOVERY_SECONDS_MAX: Final = 30.0
STORED_SECONDS_MAX: Final = 60.0
TENANTS: Final = ("acme", "globex")
TABLES: Final = {
    "traces": ("tf_traces", "SpanAttributes", "ServiceName"),
    "logs": ("tf_logs", "LogAttributes", "ServiceName"),
    "metrics": ("tf_metrics_gauge", "Attributes", "ServiceName"),
}


@dataclass(frozen=True)
class Stored:
    """What ClickHouse holds of one signal of a run."""

    rows: int
    distinct: int
    highest: int
    of_wrong_tenant: int


@dataclass
class Result:
    """The outcome of one seed."""

    seed: int
    items: int
    faults: list[str] = field(default_factory=list)
    requests: int = 0
    retries: int = 0
    acked: int = 0
    stored: int = 0
    lost: int = 0
    twice: int = 0
    of_wrong_tenant: int = 0
    # What clients were refused, and what a look at the processes found.
    complaints: list[str] = field(default_factory=list)
    recovery_seconds: float = 0.0
    seconds: float = 0.0
    # The most of any gateway or writer, once all was quiet.
    fds: int = 0
    rss_mb: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing was lost or doubled, and everything came back by itself in time."""
        return (
            self.acked == self.items == self.stored
            and not (self.lost or self.twice or self.of_wrong_tenant or self.complaints)
            and self.recovery_seconds <= RECOVERY_SECONDS_MAX
        )

    def line(self) -> str:
        """For people, while it runs."""
        return (
            f"seed {self.seed}: {'ok' if self.good else 'FAILED'} acked {self.acked} "
            f"stored {self.stored} lost {self.lost} twice {self.twice} retries {self.retries} "
            f"recovery {self.recovery_seconds:.1f} s in {self.seconds:.0f} s: "
            f"{'; '.join(self.faults)} {' '.join(self.complaints[:2])}"
        )


class Campaign:
    """The `product` with all its proxies; a context manager."""

    def __init__(self, folder: Path, *, log: str) -> None:
        self._folder = folder
        self._log = log
        self._stack = ExitStack()
        self._broker: Broker | None = None
        self._kafka: LossyProxy | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(self, seed: int, items: int) -> Result:
        """Send, break, wait, and count."""
        nemesis = Nemesis(
            self.product,
            self._clickhouse,
            seed=seed,
            session_seconds=SESSION_SECONDS,
            broker=self._broker,
            kafka=self._kafka,
        )
        started = time.monotonic()
        clients = Clients(
            _name(seed),
            items,
            self._senders,
            http_ports=self.product.http_ports,
            grpc_ports=self.product.grpc_ports,
            seconds=nemesis.count * SECONDS_PER_FAULT,
            seconds_max=RUN_SECONDS_MAX,
            seed=seed,
        )
        clients.start()
        try:
            nemesis.run()
        finally:
            clients.faults_are_over()
            clients.join()
        stored = self._settled(_name(seed), clients.tally.acked)
        quiet_at = time.monotonic()
        result = Result(seed, items, nemesis.faults)
        judge(result, clients.tally, stored)
        result.recovery_seconds = quiet_at - nemesis.last_fault_at
        result.seconds = quiet_at - started
        result.fds, result.rss_mb, complaints = health(self.product, self.running)
        result.complaints += complaints
        return result

    def count_again(self, results: Sequence[Result]) -> None:
        """What was right must still be: nothing may arrive late for a second time."""
        for result in results:
            rows = sum(self._stored(_name(result.seed), signal).rows for signal in TABLES)
            if rows != result.stored:
                result.complaints.append(f"{rows} rows when counted again")

    @property
    def running(self) -> list[str]:
        """The processes that run between faults."""
        return [name for name in self.product.names if name != "writer-3"]

    def _settled(self, run: str, acked: dict[str, int]) -> dict[str, Stored]:
        """What is stored, once that is everything or nothing more comes."""
        deadline = time.monotonic() + STORED_SECONDS_MAX
        while True:
            stored = {signal: self._stored(run, signal) for signal in TABLES}
            complete = all(one.rows >= acked[signal] for signal, one in stored.items())
            if complete or time.monotonic() > deadline:
                return stored
            time.sleep(0.2)

    def _stored(self, run: str, signal: str) -> Stored:
        table, attributes, service = TABLES[signal]
        sql = f"""
            SELECT count() AS rows, uniqExact(id) AS distinct, max(id) AS highest,
                countIf(TenantId != ResourceAttributes['{TENANT_ATTRIBUTE}']) AS wrong
            FROM (SELECT *, toInt64OrZero({attributes}['{ID_ATTRIBUTE}']) AS id FROM {table}
                  WHERE {service} = {{run:String}})
        """
        (row,) = self.product.rows(sql, run=run)
        return Stored(
            int(row["rows"]), int(row["distinct"]), int(row["highest"]), int(row["wrong"])
        )

    def _start(self, stack: ExitStack) -> None:
        clickhouse_port, behind = free_ports(2)
        self._clickhouse = LossyProxy(clickhouse_port, behind)
        proxies = [self._clickhouse]
        settings: dict[str, str] = {}
        if self._log == "kafka":
            (port,) = free_ports(1)
            self._broker = Broker(self._folder / "kafka", advertised_port=port)
            stack.callback(self._broker.kill)
            self._broker.start()
            self._kafka = LossyProxy(port, self._broker.port)
            proxies.append(self._kafka)
            settings = kafka_settings(self._broker)
        stack.enter_context(running(*proxies))
        several = self._log == "kafka"
        self.product = Product(
            self._folder / "product",
            settings,
            gateways=2 if several else 1,
            writers=3 if several else 1,
            clickhouse_port=clickhouse_port,
            own_clickhouse_port=behind,
        )
        directory = state_of("default", *TENANTS)
        peppers = Peppers.from_text(self.product.settings["API_KEY_PEPPER"])
        self._senders = [
            Sender("default", {}),
            *(_with_key(directory, peppers, tenant) for tenant in TENANTS),
        ]
        self.product.write_directory(directory)
        stack.enter_context(self.product)
        if several:
            self.product.stop("writer-3")


# Keys that say nothing are held to THROTTLE_INGESTION_LIMIT.
AS_MUCH_AS_COMES = Limits(requests_per_minute=1_000_000_000)


def _with_key(directory: DirectoryState, peppers: Peppers, tenant: str) -> Sender:
    key, secret = add_key(directory, peppers, tenant, limits=AS_MUCH_AS_COMES)
    return Sender(tenant, {"Authorization": f"Bearer {key.id}:{secret}"})


def _name(seed: int) -> str:
    return f"run-{seed}"


def judge(result: Result, tally: Tally, stored: Mapping[str, Stored]) -> None:
    """Compare what clients were told with what is stored."""
    result.requests = tally.requests
    result.retries = tally.retries
    result.acked = tally.acked_items
    result.complaints += tally.refusals
    for signal, one in stored.items():
        result.stored += one.rows
        result.twice += one.rows - one.distinct
        result.lost += max(tally.acked[signal] - one.distinct, 0)
        result.of_wrong_tenant += one.of_wrong_tenant
        if one.rows and one.highest >= tally.sent[signal]:
            result.complaints.append(f"{signal}: stored what was never sent")
