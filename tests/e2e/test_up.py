"""`telemetryflow up` as a user has it: one command, real processes, Ctrl-C."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import COMMAND, ROOT, wait_for
from tests.ports import free_ports

READY_SECONDS_MAX = 90
VISIBLE_SECONDS_MAX = 2.0


class Up:
    """One `telemetryflow up` with ports and a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        names = (
            "INGEST_GRPC_PORT",
            "INGEST_HTTP_PORT",
            "CLICKHOUSE_PORT",
            "INGEST_METRICS_PORT",
            "WRITER_METRICS_PORT",
            "PORT",
            "DB_PORT",
            "DIRECTORY_PORT",
            "API_METRICS_PORT",
            "WORKER_METRICS_PORT",
        )
        self.ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
        self.data = folder / "data"
        self._output = folder / "up.txt"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("INGEST_", "OTEL_"))}
        # Tests ask again and again until something is there.
        own = {"TELEMETRYFLOW_DATA_DIR": str(self.data), "THROTTLE_LIMIT": "100000"}
        return {**plain, **self.ports, **own}

    def start(self) -> None:
        """Start and wait until it is ready."""
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "up"], cwd=ROOT, env=self.environment, stdout=output, stderr=output
            )
        wait_for("ready", self._ready_or_ended, READY_SECONDS_MAX)
        assert self.process.poll() is None, self.text

    def _ready_or_ended(self) -> bool:
        assert self.process is not None
        # The last line of what is printed then.
        return "Ctrl-C stops everything" in self.text or self.process.poll() is not None

    @property
    def text(self) -> str:
        return self._output.read_text()

    def run(self, *arguments: str, settings: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Another command of the product on the same ports and folder."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env={**self.environment, **(settings or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    def children(self) -> list[int]:
        return [pid for pid, _started in json.loads((self.data / "children.json").read_bytes())]

    def child(self, name: str) -> int:
        """The process of that name."""
        order = ("clickhouse", "postgres", "ingest", "writer", "api", "worker")
        return self.children()[order.index(name)]

    def stop(self, number: int = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(70)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    product = Up(tmp_path)
    yield product
    product.close()


@pytest.fixture(scope="module")
def started_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One for all tests that leave it as it was."""
    product = Up(tmp_path_factory.mktemp("up"))
    product.start()
    yield product
    product.close()


def send_span(port: str, name: str) -> None:
    now = time.time_ns()
    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "name": name,
        "startTimeUnixNano": str(now),
        "endTimeUnixNano": str(now + 1000),
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/traces",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.read() == b"{}"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_what_is_sent_is_visible_within_two_seconds(
    started_up: Up,
) -> None:
    up = started_up
    send_span(up.ports["INGEST_HTTP_PORT"], "first")
    answered = time.monotonic()
    url = f"http://127.0.0.1:{up.ports['CLICKHOUSE_PORT']}/"
    query = b"SELECT count() FROM telemetry.otel_traces WHERE SpanName = 'first'"

    def visible() -> bool:
        with urllib.request.urlopen(url, query, timeout=10) as answer:
            return bool(answer.read() == b"1\n")

    # Twice the promise, since the machine that tests may be busy with other tests.
    wait_for("the row", visible, 2 * VISIBLE_SECONDS_MAX)

    assert time.monotonic() - answered < 2 * VISIBLE_SECONDS_MAX
    code, text = up.run(
        "sql", "SELECT TenantId, SpanName FROM otel_traces WHERE SpanName = 'first'"
    )
    assert (code, text) == (0, "default\tfirst\n")
    code, text = up.run("check")
    assert code == 0, text
    assert "0 in flight" in text


def test_ctrl_c_stores_what_was_acknowledged_and_ends_every_process(up: Up) -> None:
    up.start()
    assert "Super Administrator" in up.text
    for number in range(20):
        send_span(up.ports["INGEST_HTTP_PORT"], f"span {number}")
    children = up.children()

    assert up.stop() == 0
    assert not any(map(alive, children))
    up.start()
    assert "Super Administrator" not in up.text
    wait_for(
        "all rows",
        lambda: up.run("sql", "SELECT count() FROM otel_traces") == (0, "20\n"),
        20,
    )


def test_a_second_instance_on_the_same_data_is_refused_by_name(
    started_up: Up,
) -> None:
    up = started_up
    assert up.process is not None

    code, text = up.run("up")

    assert code == 1
    assert re.search(rf"pid {up.process.pid}\b.*already runs", text), text
    assert "--data" in text


def test_a_killed_supervisor_leaves_nothing_behind_that_hinders_the_next_start(up: Up) -> None:
    up.start()
    children = up.children()
    assert up.process is not None
    up.process.kill()
    up.process.wait()

    up.start()

    assert not any(map(alive, children))


def test_a_crashed_process_is_started_again(started_up: Up) -> None:
    up = started_up
    writer = up.child("writer")

    os.kill(writer, signal.SIGKILL)

    wait_for("a new writer", lambda: "starting it again" in up.text, 10)
    send_span(up.ports["INGEST_HTTP_PORT"], "after the crash")
    query = "SELECT count() FROM otel_traces WHERE SpanName = 'after the crash'"
    wait_for("the row", lambda: up.run("sql", query) == (0, "1\n"), 20)


def test_the_product_shows_what_it_does_itself_to_the_tenant_platform_alone(up: Up) -> None:
    up.start()
    port = up.ports["PORT"]
    for _ in range(3):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=10) as answer:
            assert answer.status == 200
    # Its end sends what waits: no need to wait for the next minute.
    up.stop()
    up.start()
    url = f"http://127.0.0.1:{up.ports['CLICKHOUSE_PORT']}/"

    def answer_of(query: str) -> list[list[str]]:
        with urllib.request.urlopen(url, f"{query} FORMAT TSV".encode(), timeout=10) as answer:
            return [line.split("\t") for line in answer.read().decode().splitlines()]

    services = answer_of(
        "SELECT DISTINCT TenantId, ServiceName FROM telemetry.otel_metrics_gauge "
        "WHERE MetricName = 'process.uptime' ORDER BY 2"
    )
    assert services == [
        ["platform", f"telemetryflow-backend-{name}"] for name in ("api", "ingest", "worker")
    ]
    lines = answer_of(
        "SELECT TenantId, count() FROM telemetry.otel_logs WHERE ServiceName LIKE '%-api' "
        "AND Body LIKE 'GET /openapi.json%' GROUP BY 1"
    )
    assert lines == [["platform", "3"]]
    tenants = "SELECT DISTINCT TenantId FROM telemetry.otel_{} WHERE ServiceName LIKE 'telem%'"
    for table in ("logs", "traces", "metrics_sum", "metrics_histogram"):
        assert answer_of(tenants.format(table)) in ([], [["platform"]]), table


def test_two_gateway_workers_share_the_ports_and_a_killed_one_comes_back(up: Up) -> None:
    up.ports["INGEST_WORKERS"] = "2"
    up.start()
    parent = up.child("ingest")
    workers = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    gateways = [int(pid) for pid in workers if b"spawn_main" in command_line(pid)]
    assert len(gateways) == 2
    os.kill(gateways[0], signal.SIGKILL)
    for number in range(10):
        # As exporters do: a connection that the killed worker had not taken yet is tried again.
        wait_for("an answer", lambda n=number: answered(up, f"span {n}"), 10)  # type: ignore[misc]

    wait_for(
        "all rows", lambda: up.run("sql", "SELECT count() FROM otel_traces") == (0, "10\n"), 20
    )
    log = up.data / "logs" / "ingest.jsonl"
    wait_for("the restart", lambda: "restarting" in log.read_text(), 20)
    assert up.stop() == 0
    assert not any(map(alive, gateways))


def answered(up: Up, name: str) -> bool:
    try:
        send_span(up.ports["INGEST_HTTP_PORT"], name)
    except OSError:
        return False
    return True


def command_line(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_port_in_use_is_named_with_the_setting_to_change(started_up: Up, tmp_path: Path) -> None:
    up = started_up
    other = Up(tmp_path / "other")
    other.data.parent.mkdir()
    other.ports["INGEST_HTTP_PORT"] = up.ports["INGEST_HTTP_PORT"]

    code, text = other.run("up")

    assert code == 1
    assert f"port {up.ports['INGEST_HTTP_PORT']}" in text
    assert "INGEST_HTTP_PORT" in text


def test_a_key_of_the_API_works_and_is_refused_within_a_second_of_its_revocation(
    started_up: Up,
) -> None:
    up = started_up
    person = {"TELEMETRYFLOW_TOKEN": token_of_administrator(up)}
    code, text = up.run("key", "create", "--name", "test", settings=person)
    assert code == 0, text
    key = re.search(r"tfk_[0-9a-f]{32}", text)
    secret = re.search(r"tfs_[0-9a-f]{64}", text)
    assert key is not None
    assert secret is not None

    def status() -> int:
        request = urllib.request.Request(
            f"http://127.0.0.1:{up.ports['INGEST_HTTP_PORT']}/v1/traces",
            b"{}",
            {"Content-Type": "application/json", "Authorization": f"Bearer {key[0]}:{secret[0]}"},
        )
        try:
            return int(urllib.request.urlopen(request, timeout=10).status)
        except urllib.error.HTTPError as error:
            return error.code

    wait_for("the key to be known", lambda: status() == 200, 5)
    assert secret[0] not in up.run("key", "list", settings=person)[1]
    # Known keys go on without the control plane, also in a gateway that starts anew.
    wait_for("the file", lambda: key[0].encode() in (up.data / "directory.bin").read_bytes(), 10)
    for name in ("api", "postgres"):
        os.kill(up.child(name), signal.SIGSTOP)
    os.kill(up.child("ingest"), signal.SIGKILL)
    wait_for("the key to be known again", lambda: answers(status) == 200, 20)
    for name in ("api", "postgres"):
        os.kill(up.child(name), signal.SIGCONT)
    code, text = up.run("key", "revoke", key[0], settings=person)
    assert code == 0, text
    wait_for("the key to be refused", lambda: status() == 401, 5)


def test_a_key_reads_live_what_is_sent_and_the_API_is_told_by_the_log(started_up: Up) -> None:
    up = started_up
    made = asked(up, "api-keys", token_of_administrator(up), {"name": "r", "preset": "readOnly"})
    key = json.loads(made.read())
    pair = f"{key['key']['keyId']}:{key['secret']}"

    def follows_log() -> bool:
        files = Path(f"/proc/{up.child('api')}/fd").iterdir()
        return any(str(one.readlink()).endswith("log/log.db") for one in files if one.is_symlink())

    with asked(up, "telemetry/spans/tail?seconds=60&operation=live", pair) as tail:
        wait_for("the API to follow the log", follows_log, 20)
        send_span(up.ports["INGEST_HTTP_PORT"], "live")
        while b'"operation":"live"' not in (line := tail.readline()):
            assert line, "the tail ended"


@pytest.mark.timeout(240)
def test_every_call_of_the_documentation_answers_with_data(started_up: Up, tmp_path: Path) -> None:
    up, token = started_up, token_of_administrator(started_up)
    code, text = up.run("send", "all", "--seconds", "3", "--rate", "100")
    assert code == 0, text
    page = (ROOT / "docs" / "querying.md").read_text()
    page = page.replace("localhost:3000", f"localhost:{up.ports['PORT']}")
    begin, calls, _key, query = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    (get,) = re.findall(r"^get\(\).*", begin, re.MULTILINE)

    def first(path: str) -> Any:
        with asked(up, f"telemetry/{path}", token) as answer:
            return next(iter(json.loads(answer.read())["data"]), {})

    wait_for("measurements", lambda: bool(first("metrics/names?search=shop.requests")), 20)
    wait_for("a trace", lambda: bool(first("traces?service=checkout")), 20)
    wait_for("a line", lambda: bool(first("logs?service=checkout")), 20)
    # Their catalogue takes up a new series within a minute.
    wait_for("labels", lambda: bool(first("metrics/labels?metricName=shop.requests")), 90)
    line = first("logs?service=checkout")
    values = {"TOKEN": token, "TRACE_ID": line["traceId"], "TIME": line["time"], "ID": line["id"]}
    for call in [*filter(None, calls.replace("seconds=60", "seconds=1").splitlines()), query]:
        output = subprocess.run(
            ["bash", "-c", f"{get}\n{call}"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "NAME": "shop.requests", **values},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        if "logs.csv" in call:
            assert (tmp_path / "logs.csv").read_text().count("\n") > 100
        elif "/tail" in call:
            assert output.startswith("event: "), call
        else:
            told = json.loads(output)
            known = ("data", "series", "spans", "resourceSpans", "before")
            assert any(told.get(name) for name in known), (call, output[:1_000])


def asked(up: Up, path: str, token: str, body: object = None) -> http.client.HTTPResponse:
    request = urllib.request.Request(
        f"http://127.0.0.1:{up.ports['PORT']}/api/v2/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=30)
    return answer


def answers(status: Callable[[], int]) -> int:
    try:
        return status()
    except OSError:
        return 0


@cache
def token_of_administrator(up: Up) -> str:
    """Of the printed administrator, who has chosen a password."""
    email, first = up.text.split("Super Administrator")[1].split()[:2]
    password = "Correct-Horse-7-battery"
    token = ""
    for path, body in (
        ("login", {"email": email, "password": first}),
        ("change-password", {"currentPassword": first, "newPassword": password}),
        ("login", {"email": email, "password": password}),
    ):
        with asked(up, f"auth/{path}", token, body) as answer:
            token = json.loads(answer.read()).get("accessToken", token)
    return token


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"INGEST_HTTP_PROT": "1"}, ("INGEST_HTTP_PROT", "did you mean INGEST_HTTP_PORT")),
        ({"INGEST_WORKERS": "many"}, ("INGEST_WORKERS=many", "from 1 to 256")),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, ("SASL_SSL", "KAFKA_SASL_USERNAME")),
        (
            {"KAFKA_REPLICATION_FACTOR": "1"},
            ("KAFKA_MIN_INSYNC_REPLICAS", "KAFKA_REPLICATION_FACTOR"),
        ),
    ],
)
def test_a_wrong_setting_stops_the_start_and_says_what_is_allowed(
    up: Up, settings: dict[str, str], words: tuple[str, ...]
) -> None:
    code, text = up.run("up", settings=settings)

    assert code == 2
    assert all(word in text for word in words), text


def test_help_needs_none_of_the_engines() -> None:
    code = "import sys, control.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    check = "assert not {'chdb', 'grpc', 'uvloop', 'clickhouse_connect'} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code + check],
        cwd=ROOT,
        check=True,
        timeout=30,
        stdout=subprocess.DEVNULL,
    )
