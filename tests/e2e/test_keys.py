"""From a key that is made over the API to usage that equals the rows, with real SDKs."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.processes import wait_for
from tests.e2e.test_sdks import Sender
from tests.e2e.test_up import Up, token_of_administrator

# The ledger gathers what was stored for ten seconds.
USAGE_SECONDS_MAX: Final = 60
ROWS_SQL: Final = """
    SELECT signal, toString(count()) FROM (
      SELECT 'traces' AS signal FROM tf_traces WHERE ServiceName LIKE 'keyed-%' UNION ALL
      SELECT 'logs' FROM tf_logs WHERE ServiceName LIKE 'keyed-%' UNION ALL
      SELECT 'metrics' FROM tf_metrics_gauge WHERE ServiceName LIKE 'keyed-%' UNION ALL
      SELECT 'metrics' FROM tf_metrics_sum WHERE ServiceName LIKE 'keyed-%' UNION ALL
      SELECT 'metrics' FROM tf_metrics_histogram WHERE ServiceName LIKE 'keyed-%' UNION ALL
      SELECT 'metrics' FROM tf_metrics_exponential_histogram WHERE ServiceName LIKE 'keyed-%')
    GROUP BY signal ORDER BY signal
"""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    product = Up(tmp_path)
    try:
        product.start()
        yield product
    finally:
        product.close()


def ask(up: Up, token: str, path: str, body: Any = None) -> Any:
    """What the API answers."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{up.ports['PORT']}/api/v2{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.timeout(240)
def test_G20_usage_of_a_key_equals_the_rows_that_real_SDKs_sent_with_it(up: Up) -> None:
    token = token_of_administrator(up)
    made = ask(up, token, "/api-keys", {"name": "two SDKs"})
    headers = made["otlpHeaders"]
    bearer = re.sub("^authorization=Bearer%20", "", headers)
    assert bearer == f"{made['key']['keyId']}:{made['secret']}"
    grpc, http = int(up.ports["INGEST_GRPC_PORT"]), int(up.ports["INGEST_HTTP_PORT"])
    for sender in (Sender("python", "grpc", "gzip"), Sender("python", "http", "none")):
        sender.send(f"keyed-{sender}", grpc_port=grpc, http_port=http, headers=headers)
    # Without a key: of the same tenant, and of no key.
    Sender("python", "http", "none").send("keyless", grpc_port=grpc, http_port=http)

    def rows() -> dict[str, int]:
        text = up.run("sql", ROWS_SQL)[1]
        return {signal: int(items) for signal, items in map(str.split, text.splitlines())}

    def usage() -> dict[str, int]:
        path = f"/api-keys/{made['key']['id']}/usage?granularity=hour"
        return {one["signal"]: one["items"] for one in ask(up, token, path)["totals"]}

    # Two SDKs with two traces of three spans …: twice what tests/e2e/senders sends.
    expected = {"logs": 10, "metrics": 10, "traces": 12}
    wait_for("the rows", lambda: rows() == expected, 20)
    wait_for("usage that equals the rows", lambda: usage() == expected, USAGE_SECONDS_MAX)
    assert rows() == expected
