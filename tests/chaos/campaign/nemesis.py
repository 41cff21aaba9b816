"""Faults in a random order that its seed determines; each ends what it began."""

import random
import time
from collections.abc import Callable
from typing import Final

from tests.e2e.processes import Product
from tests.kafka.broker import Broker
from tests.kafka.proxy import LossyProxy

FAULTS_MIN, FAULTS_MAX = 3, 6
PAUSE_SECONDS_MAX: Final = 1.0
# Codes with which ClickHouse says that it cannot now: timeout, too many queries, memory, read-only
# table, no space, too many parts.
OVERLOAD_CODES: Final = (159, 202, 241, 242, 243, 252)
CRASH_POINTS: Final = {
    "ingest": (
        "gateway.after_auth",
        "gateway.before_produce",
        "log.before_commit",
        "log.after_commit",
        "gateway.after_produce",
        "gateway.after_ack_before_reply",
    ),
    "writer": (
        "writer.after_poll",
        "writer.after_plan_commit",
        "writer.before_insert",
        "writer.after_insert_before_commit",
        "writer.after_commit",
    ),
}
CRASH_SECONDS_MAX: Final = 3.0


class Nemesis:
    """Breaks a product, one fault after the other: `count` of them."""

    def __init__(
        self,
        product: Product,
        clickhouse: LossyProxy,
        *,
        seed: int,
        session_seconds: float,
        broker: Broker | None = None,
        kafka: LossyProxy | None = None,
    ) -> None:
        self._random = random.Random(seed)
        self.count = self._random.randint(FAULTS_MIN, FAULTS_MAX)
        self._product = product
        self._clickhouse = clickhouse
        self._broker = broker
        self._kafka = kafka
        self._session_seconds = session_seconds
        self.faults: list[str] = []
        self.last_fault_at = 0.0

    def run(self) -> None:
        """All faults of this seed."""
        kinds = self._kinds()
        for _fault in range(self.count):
            kind = self._random.choice(kinds)
            self.faults.append(kind())
            self.last_fault_at = time.monotonic()
            time.sleep(self._random.uniform(0, PAUSE_SECONDS_MAX))

    def _kinds(self) -> list[Callable[[], str]]:
        kinds = [
            self._kill,
            self._kill_several,
            self._freeze,
            self._crash,
            self._crash,
            self._restart,
            self._clickhouse_answers_lost,
            self._insert_cut,
            self._clickhouse_refuses,
            self._clickhouse_held,
        ]
        if "writer-3" in self._product.names:
            kinds += [self._writer_joins_and_leaves]
        if self._broker is not None:
            kinds += [self._broker_killed, self._broker_frozen]
        if self._kafka is not None:
            kinds += [self._kafka_answers_lost, self._kafka_held]
        return kinds

    def _somebody(self) -> str:
        return self._random.choice([name for name in self._product.names if name != "writer-3"])

    def _kill(self) -> str:
        name = self._somebody()
        self._product.kill(name)
        time.sleep(self._random.uniform(0, 1))
        self._product.start(name)
        return f"kill {name}"

    def _kill_several(self) -> str:
        names = [name for name in self._product.names if name != "writer-3"]
        victims = self._random.sample(names, self._random.randint(2, len(names)))
        for name in victims:
            self._product.kill(name)
        for name in names:
            if name in victims:
                self._product.start(name)
        return f"kill {'+'.join(victims)}"

    def _freeze(self) -> str:
        name = self._somebody()
        seconds = self._random.choice((0.5, self._session_seconds + 1))
        self._product.pause(name)
        time.sleep(seconds)
        self._product.resume(name)
        return f"freeze {name} {seconds:.1f} s"

    def _crash(self) -> str:
        """Die at a point in the work; killed when the work does not come by there in time."""
        name = self._somebody()
        points = CRASH_POINTS.get(name.partition("-")[0])
        if points is None:
            return self._kill()
        point = f"{self._random.choice(points)}:{self._random.randint(1, 20)}"
        self._product.kill(name)
        self._product.start(name, crash_at=point)
        deadline = time.monotonic() + CRASH_SECONDS_MAX
        while time.monotonic() < deadline and not self._product.has_ended(name):
            time.sleep(0.02)
        reached = self._product.has_ended(name)
        self._product.kill(name)
        self._product.start(name)
        return f"crash {name} at {point}{'' if reached else ' (not reached, killed)'}"

    def _restart(self) -> str:
        name = self._somebody()
        self._product.stop(name)
        self._product.start(name)
        return f"restart {name}"

    def _writer_joins_and_leaves(self) -> str:
        self._product.start("writer-3")
        time.sleep(self._random.uniform(0.5, 2))
        if self._random.random() < 0.5:
            self._product.stop("writer-3")
            return "writer-3 joins and leaves"
        self._product.kill("writer-3")
        return "writer-3 joins and dies"

    def _clickhouse_answers_lost(self) -> str:
        self._clickhouse.losing = True
        time.sleep(self._random.uniform(0.3, 1))
        self._clickhouse.losing = False
        return "answers of ClickHouse lost"

    def _insert_cut(self) -> str:
        self._clickhouse.cut_after = self._random.choice((0, 100, 5_000, 50_000))
        after = self._clickhouse.cut_after
        time.sleep(0.5)
        self._clickhouse.cut_after = None
        return f"INSERT cut after {after} bytes"

    def _clickhouse_refuses(self) -> str:
        code = self._random.choice(OVERLOAD_CODES)
        text = f"Code: {code}. DB::Exception: on purpose"
        self._clickhouse.refusal = (
            f"HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: {code}\r\n"
            f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
        ).encode()
        time.sleep(self._random.uniform(0.3, 1))
        self._clickhouse.refusal = None
        return f"ClickHouse refuses with {code}"

    def _clickhouse_held(self) -> str:
        self._clickhouse.hold()
        time.sleep(self._random.uniform(0.5, 2))
        self._clickhouse.release()
        return "ClickHouse out of reach"

    def _broker_killed(self) -> str:
        assert self._broker is not None
        self._broker.kill()
        self._broker.start()
        return "kill broker"

    def _broker_frozen(self) -> str:
        assert self._broker is not None
        self._broker.pause()
        time.sleep(self._random.choice((0.5, self._session_seconds + 1)))
        self._broker.resume()
        return "freeze broker"

    def _kafka_answers_lost(self) -> str:
        assert self._kafka is not None
        self._kafka.losing = True
        time.sleep(self._random.uniform(0.2, 0.8))
        self._kafka.losing = False
        return "answers of Kafka lost"

    def _kafka_held(self) -> str:
        assert self._kafka is not None
        self._kafka.hold()
        time.sleep(self._random.uniform(0.5, self._session_seconds + 1))
        self._kafka.release()
        return "Kafka out of reach"
