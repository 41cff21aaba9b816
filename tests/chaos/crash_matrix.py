"""The crash matrix: `python -m tests.chaos.crash_matrix --folder FOLDER --report FILE`.

Each experiment lets one process die at one moment while one request of a client is on its way. It
notes what the client sees, what is stored while the process is dead, and what is stored in the end.
"""

import argparse
import http.client
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from tests.chaos.kafka_products import kafka_settings
from tests.chaos.load import RETRYABLE, request_of
from tests.e2e.processes import Product, wait_for
from tests.kafka.broker import Broker
from tests.kafka.proxy import LossyProxy, running
from tests.ports import free_ports

RECORDS: Final = 100
# Behind the head of an INSERT, and within its body.
CUT_AFTER_BYTES: Final = 4_000
ANSWER_SECONDS_MAX: Final = 12.0
# How long a dead process stays dead: long enough for the others to store what they can.
DEAD_SECONDS: Final = 1.0
SETTLED_SECONDS_MAX: Final = 40.0
COPIES_SQL: Final = """
    SELECT count() AS rows, uniqExact(Body) AS bodies FROM tf_logs
    WHERE startsWith(Body, {run:String})
"""
TOO_MUCH_MEMORY: Final = (
    b"HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: 241\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
GATEWAY_POINTS: Final = (
    "gateway.after_auth",
    "gateway.before_produce",
    "log.before_commit",
    "log.after_commit",
    "gateway.after_produce",
    "gateway.after_ack_before_reply",
)
WRITER_POINTS: Final = (
    "writer.after_poll",
    "writer.after_plan_commit",
    "writer.before_insert",
    "writer.after_insert_before_commit",
    "writer.after_commit",
)
REVOKE_POINT: Final = "writer.in_revoke"
ACCEPTED: Final = "accepted"
REPEATED: Final = "accepted: known already"
# So many that every lane of the log gets some.
REQUESTS_AFTER: Final = 4
PASSAGES_AT_START_MAX: Final = 5


@dataclass(kw_only=True)
class Observation:
    """What one experiment showed; rows are those of its one request."""

    who: str
    when: str
    run: str
    request: bytes
    first_answer: str = ""
    # None: it is ClickHouse that is dead.
    stored_while_dead: int | None = None
    repeat_answer: str = ""
    stored: int = 0
    distinct: int = 0

    @property
    def good(self) -> bool:
        """Whether the request was accepted in the end, and each of its records stored once."""
        accepted = self.repeat_answer in (ACCEPTED, REPEATED)
        return accepted and self.stored == self.distinct == RECORDS

    def row(self) -> str:
        """A row of the matrix."""
        dead = "" if self.stored_while_dead is None else f"{self.stored_while_dead} of {RECORDS}"
        verdict = "each once" if self.good else f"{self.stored} rows, {self.distinct} distinct"
        cells = (self.who, self.when, self.first_answer, dead, self.repeat_answer, verdict)
        return f"| {' | '.join(cells)} |"


class Laboratory:
    """The product in which things die; on Kafka with a second gateway, which takes the repeats."""

    def __init__(
        self,
        product: Product,
        clickhouse: LossyProxy,
        *,
        broker: Broker | None = None,
        kafka: LossyProxy | None = None,
    ) -> None:
        self._product = product
        self._clickhouse = clickhouse
        self._broker = broker
        self._kafka = kafka
        self._experiments = 0

    def observe_all(self) -> Iterator[Observation]:
        """Every experiment that this log allows, one after the other."""
        for point in GATEWAY_POINTS:
            yield self.gateway_dies(point)
        for point in WRITER_POINTS:
            yield self.writer_dies(point)
        yield self.clickhouse_is_dead()
        yield self.clickhouse_dies_within_an_insert()
        yield self.clickhouse_dies_after_an_insert()
        if self._broker is not None:
            yield self.writer_dies_as_it_hands_over()
            yield self.broker_is_dead()
            yield self.broker_dies_after_an_append()

    def gateway_dies(self, point: str) -> Observation:
        """The client repeats the same bytes: to the other gateway, or once it is back."""
        seen = self._begin("gateway", point)
        self._product.stop("ingest")
        for passage in range(1, PASSAGES_AT_START_MAX):
            self._product.start("ingest", crash_at=f"{point}:{passage}")
            # The start itself may pass by there, too.
            if not self._product.has_ended("ingest"):
                break
        seen.first_answer = self._post(0, seen.request)
        self._product.wait_until_ended("ingest")
        seen.stored_while_dead = self._stored_now(seen)
        other = len(self._product.http_ports) - 1
        if other:
            self._repeat(seen, gateway=other)
        self._product.start("ingest")
        return self._settled(seen)

    def writer_dies(self, point: str) -> Observation:
        """Nobody but the writer notices; the client repeats its bytes all the same."""
        seen = self._begin("writer", point)
        self._product.stop("writer")
        self._product.start("writer", crash_at=point)
        seen.first_answer = self._post(0, seen.request)
        self._product.wait_until_ended("writer")
        seen.stored_while_dead = self._stored_now(seen)
        self._product.start("writer")
        return self._settled(seen)

    def writer_dies_as_it_hands_over(self) -> Observation:
        """A second writer joins, and the first dies while it gives partitions up."""
        # Its end is not a moment to die here: it gives up its partitions then, too.
        self._product.kill("writer")
        self._product.start("writer", crash_at=REVOKE_POINT)
        seen = self._settled(self._begin("writer", REVOKE_POINT))
        seen = self._begin("writer", REVOKE_POINT)
        # The plan under way cannot end, or nothing would be left to hand over.
        self._clickhouse.refusal = TOO_MUCH_MEMORY
        seen.first_answer = self._post(0, seen.request)
        self._product.start("writer-2")
        self._product.wait_until_ended("writer")
        seen.stored_while_dead = self._copies(seen)[0]
        self._clickhouse.refusal = None
        seen = self._settled(seen)
        self._product.start("writer")
        self._product.stop("writer-2")
        return seen

    def clickhouse_is_dead(self) -> Observation:
        """The log takes what comes meanwhile."""
        seen = self._begin("ClickHouse", "before an INSERT")
        self._product.kill("clickhouse")
        seen.first_answer = self._post(0, seen.request)
        time.sleep(DEAD_SECONDS)
        self._product.start("clickhouse")
        return self._settled(seen)

    def clickhouse_dies_within_an_insert(self) -> Observation:
        """A part of the INSERT arrives."""
        seen = self._begin("ClickHouse", "within an INSERT")
        self._clickhouse.cut_after = CUT_AFTER_BYTES
        seen.first_answer = self._post(0, seen.request)
        wait_for("INSERT", lambda: self._clickhouse.cut_after is None, SETTLED_SECONDS_MAX)
        self._product.kill("clickhouse")
        self._product.start("clickhouse")
        return self._settled(seen)

    def clickhouse_dies_after_an_insert(self) -> Observation:
        """All of the INSERT arrives, and the writer never hears of it."""
        seen = self._begin("ClickHouse", "after an INSERT, its answer lost")
        lost = self._clickhouse.lost
        self._clickhouse.losing = True
        seen.first_answer = self._post(0, seen.request)
        wait_for("INSERT", lambda: self._clickhouse.lost > lost, SETTLED_SECONDS_MAX)
        self._product.kill("clickhouse")
        self._clickhouse.losing = False
        self._product.start("clickhouse")
        return self._settled(seen)

    def broker_is_dead(self) -> Observation:
        """Nothing can be made durable, and nobody is told that it is."""
        assert self._broker is not None
        seen = self._begin("broker", "before an append")
        self._broker.kill()
        seen.first_answer = self._post(0, seen.request)
        seen.stored_while_dead = self._stored_now(seen)
        self._broker.start()
        return self._settled(seen)

    def broker_dies_after_an_append(self) -> Observation:
        """The records are in the log, and the gateway never hears of it."""
        assert self._broker is not None
        assert self._kafka is not None
        seen = self._begin("broker", "after an append, its answer lost")
        self._kafka.losing = True
        seen.first_answer = self._post(0, seen.request)
        self._broker.kill()
        self._kafka.losing = False
        seen.stored_while_dead = self._stored_now(seen)
        self._broker.start()
        return self._settled(seen)

    def _begin(self, who: str, when: str) -> Observation:
        self._experiments += 1
        run = f"matrix-{self._experiments}/"
        # Text that does not compress: an INSERT is to have a body worth cutting.
        bodies = [f"{run}{number}/{secrets.token_hex(32)}" for number in range(RECORDS)]
        return Observation(who=who, when=when, run=run, request=request_of(bodies, time.time_ns()))

    def _settled(self, seen: Observation) -> Observation:
        """*seen* with its end: repeated, if it was not yet, and counted when all has arrived."""
        if not seen.repeat_answer:
            self._repeat(seen, gateway=0)
        self._wait_until_stored(seen)
        # Others go the same way: what would be stored twice is stored by then.
        for _request in range(REQUESTS_AFTER):
            after = self._begin(seen.who, seen.when)
            self._repeat(after, gateway=0)
            self._wait_until_stored(after)
        seen.stored, seen.distinct = self._copies(seen)
        return seen

    def _repeat(self, seen: Observation, *, gateway: int) -> None:
        def is_settled() -> bool:
            seen.repeat_answer = self._post(gateway, seen.request)
            return seen.repeat_answer in (ACCEPTED, REPEATED)

        wait_for("acceptance", is_settled, SETTLED_SECONDS_MAX)

    def _wait_until_stored(self, seen: Observation) -> None:
        wait_for("all rows", lambda: self._copies(seen)[1] >= RECORDS, SETTLED_SECONDS_MAX)

    def _post(self, gateway: int, request: bytes) -> str:
        port = self._product.http_ports[gateway]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS_MAX)
        try:
            headers = {"Content-Type": "application/x-protobuf"}
            connection.request("POST", "/v1/logs", request, headers)
            answer = connection.getresponse()
            content = answer.read()
        except ConnectionRefusedError:
            return "connection refused"
        except TimeoutError:
            return "no answer in time"
        except (OSError, http.client.HTTPException):
            return "connection cut"
        finally:
            connection.close()
        if answer.status != 200:
            return f"{answer.status}{', try again' if answer.status in RETRYABLE else ''}"
        told = ExportLogsServiceResponse.FromString(content).partial_success
        return REPEATED if told.error_message else ACCEPTED

    def _stored_now(self, seen: Observation) -> int:
        time.sleep(DEAD_SECONDS)
        return self._copies(seen)[0]

    def _copies(self, seen: Observation) -> tuple[int, int]:
        (row,) = self._product.rows(COPIES_SQL, run=seen.run)
        return int(row["rows"]), int(row["bodies"])


@contextmanager
def laboratory(folder: Path, *, log: str) -> Iterator[Laboratory]:
    """Everything that an experiment needs, on a log in Kafka or the embedded one."""
    with ExitStack() as stack:
        clickhouse_port, behind = free_ports(2)
        clickhouse = LossyProxy(clickhouse_port, behind)
        proxies = [clickhouse]
        settings: dict[str, str] = {}
        broker = kafka = None
        if log == "kafka":
            (port,) = free_ports(1)
            broker = Broker(folder / "kafka", advertised_port=port)
            stack.callback(broker.kill)
            broker.start()
            kafka = LossyProxy(port, broker.port)
            proxies.append(kafka)
            settings = kafka_settings(broker, KAFKA_PARTITIONS="2")
        stack.enter_context(running(*proxies))
        count = 1 if broker is None else 2
        product = Product(
            folder / "product",
            settings,
            gateways=count,
            writers=count,
            clickhouse_port=clickhouse_port,
            own_clickhouse_port=behind,
        )
        stack.enter_context(product)
        if broker is not None:
            product.stop("writer-2")
        yield Laboratory(product, clickhouse, broker=broker, kafka=kafka)


def markdown(observed: Mapping[str, Sequence[Observation]]) -> str:
    """The matrix of each log. Nothing in it depends on time, so that changes show."""
    return "\n".join(
        [
            "# Crash matrix",
            "",
            f"A request with {RECORDS} log records is on its way when a process dies (SIGKILL) at",
            "the given moment. Then the client sends the same bytes again: on Kafka to the other",
            "gateway if it was a gateway that died. The columns say what the client saw first, how",
            "many rows were stored while it was dead, what the client saw when it repeated",
            "the request, and what is stored in the end.",
            "",
            "Written by `python -m tests.chaos.crash_matrix` from what it observes.",
            "",
            *(line for log, those in observed.items() for line in _table(log, those)),
        ]
    )


def _table(log: str, observed: Sequence[Observation]) -> list[str]:
    title = {"embedded": "Embedded log", "kafka": "Kafka"}[log]
    return [
        f"## {title}",
        "",
        "| who dies | when | client sees | stored while it is dead | repeat | stored in the end |",
        "|---|---|---|---|---|---|",
        *(one.row() for one in observed),
        "",
    ]


def main() -> int:
    """Observe on both logs and write the report; 1 when a row is not good."""
    parser = argparse.ArgumentParser(prog="tests.chaos.crash_matrix", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="data and outputs; not removed")
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    observed = {}
    for log in ("embedded", "kafka"):
        with laboratory(options.folder / log, log=log) as those:
            observed[log] = [_shown(one) for one in those.observe_all()]
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(markdown(observed))
    return 0 if all(one.good for those in observed.values() for one in those) else 1


def _shown(observation: Observation) -> Observation:
    print(observation.row(), flush=True)
    return observation


if __name__ == "__main__":
    sys.exit(main())
