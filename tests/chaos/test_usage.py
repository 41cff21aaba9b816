"""Usage equals what is stored, to the item and the byte, whatever dies in between."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from shared.security.peppers import Peppers
from tests.chaos.campaign.bodies import SIGNALS, body
from tests.directory_states import add_key, state_of
from tests.e2e.processes import STORED_SECONDS_MAX, Product, wait_for

ANSWER_SECONDS_MAX: Final = 10
SENDING_SECONDS_MAX: Final = 90
RETRY_SECONDS: Final = 0.05
REQUESTS_BETWEEN_CRASHES: Final = 30
# Each request names its key as the service, so that the tables tell whose rows are whose.
STORED_SQL: Final = """
    SELECT TenantId AS tenant, ServiceName AS key, signal, count() AS items FROM (
      SELECT TenantId, ServiceName, 'traces' AS signal FROM otel_traces UNION ALL
      SELECT TenantId, ServiceName, 'logs' FROM otel_logs UNION ALL
      SELECT TenantId, ServiceName, 'metrics' FROM otel_metrics_gauge UNION ALL
      SELECT TenantId, ServiceName, 'metrics' FROM otel_metrics_histogram)
    GROUP BY ALL
"""
USAGE_SQL: Final = """
    SELECT TenantId AS tenant, KeyId AS key, Signal AS signal, sum(Items) AS items,
           sum(Bytes) AS bytes, groupUniqArray(toUnixTimestamp(Hour)) AS hours
    FROM usage GROUP BY ALL
"""
REPEATED_SQL: Final = "SELECT sum(Repeated) AS rows FROM ledger"


class Place(NamedTuple):
    """Whose usage, and of which signal."""

    tenant: str
    key: str
    signal: str


class Sender:
    """Sends with each key in turn, each request until it is told of success, and counts them."""

    def __init__(self, port: int, keys: list[tuple[str, str, str]]) -> None:
        """*keys* are (tenant, id, secret)."""
        self._port = port
        self._turns = cycle([(key, signal) for signal in SIGNALS for key in keys])
        self._number = count()
        self.items = Counter[Place]()
        self.bytes = Counter[Place]()
        self.sent = 0

    def send_next(self) -> None:
        """The next request."""
        key, signal = next(self._turns)
        self.send(key, signal)

    def send(self, key: tuple[str, str, str], signal: str) -> None:
        """A request of one to five items, until it is acknowledged."""
        tenant, key_id, secret = key
        number = next(self._number)
        items = 1 + number % 5
        content = body(signal, key_id, tenant, 10 * number, items)
        if signal == "metrics":
            content, items = _with_a_histogram(content), items + 1
        deadline = time.monotonic() + SENDING_SECONDS_MAX
        while not self._is_acknowledged(signal, content, f"Bearer {key_id}:{secret}"):
            assert time.monotonic() < deadline
            time.sleep(RETRY_SECONDS)
        self.items[Place(tenant, key_id, signal)] += items
        self.bytes[Place(tenant, key_id, signal)] += len(content)
        self.sent += 1

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Sends within the block, one after the other."""
        stopping = threading.Event()

        def run() -> None:
            while not stopping.is_set():
                self.send_next()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(SENDING_SECONDS_MAX)

    def wait_for_more(self) -> None:
        """Returns when some more requests were acknowledged."""
        target = self.sent + REQUESTS_BETWEEN_CRASHES
        wait_for(f"{target} requests", lambda: self.sent >= target, SENDING_SECONDS_MAX)

    def _is_acknowledged(self, signal: str, content: bytes, authorization: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS_MAX)
        headers = {"Content-Type": "application/x-protobuf", "Authorization": authorization}
        try:
            connection.request("POST", f"/v1/{signal}", content, headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        assert response.status in (200, 429, 503), response.status
        return response.status == 200


def _with_a_histogram(content: bytes) -> bytes:
    """The metrics request with a point of another table."""
    request = ExportMetricsServiceRequest.FromString(content)
    scope = request.resource_metrics[0].scope_metrics[0]
    point = scope.metrics.add(name="latency").histogram.data_points.add(count=1, sum=1)
    point.bucket_counts.append(1)
    point.time_unix_nano = scope.metrics[0].gauge.data_points[0].time_unix_nano
    return request.SerializeToString()


def places(rows: list[dict[str, str]], column: str) -> dict[Place, int]:
    return {Place(one["tenant"], one["key"], one["signal"]): int(one[column]) for one in rows}


@pytest.mark.timeout(300)
def test_F77_usage_equals_the_stored_rows_whatever_is_killed(tmp_path: Path) -> None:
    # One lane: what is sent last is also told last.
    product = Product(tmp_path, {"INGEST_LANES": "1"})
    peppers = Peppers.from_text(product.settings["API_KEY_PEPPER"])
    state = state_of("acme", "bolt", "last")
    keys = []
    for tenant in ("acme", "acme", "bolt", "last"):
        key, secret = add_key(state, peppers, tenant)
        keys.append((tenant, key.id, secret))
    product.write_directory(state)
    begun = int(time.time())
    with product:
        sender = Sender(product.http_port, keys[:-1])
        with sender.sending():
            for name, point in (
                ("writer", "writer.after_insert_before_commit:2"),
                ("ingest", "gateway.after_ack_before_reply:3"),
                ("writer", ""),
                ("writer", "writer.before_insert:2"),
            ):
                sender.wait_for_more()
                product.kill(name)
                if point:
                    product.start(name, crash_at=point)
                    product.wait_until_ended(name)
                product.start(name)
            sender.wait_for_more()
        # The ledger dies as well, with what it has not committed.
        product.kill("writer")
        product.start("writer")
        for signal in SIGNALS:
            sender.send(keys[-1], signal)

        def are_told() -> bool:
            last = [one for one in product.rows(USAGE_SQL) if one["tenant"] == "last"]
            return len(last) == len(SIGNALS)

        wait_for("the last ones in usage", are_told, 2 * STORED_SECONDS_MAX)
        usage, stored = product.rows(USAGE_SQL), product.rows(STORED_SQL)
        repeated = int(product.rows(REPEATED_SQL)[0]["rows"])
    assert places(stored, "items") == dict(sender.items)
    assert places(usage, "items") == dict(sender.items)
    assert places(usage, "bytes") == dict(sender.bytes)
    hours = {int(hour) for one in usage for hour in one["hours"]}
    assert hours <= {second // 3_600 * 3_600 for second in (begun, int(time.time()))}
    # Else nothing was sent again, and the test says less than it should.
    assert repeated > 0
