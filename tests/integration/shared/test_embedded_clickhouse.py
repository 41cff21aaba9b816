"""The embedded server as a process: memory, clients that leave, ends of every kind, restarts."""

import http.client
import os
import signal
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from backports import zstd

from tests.integration.shared.embedded_server import EmbeddedServer, Reply, wait_until

MEGABYTE = 1 << 20
LONG = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))"
# Runs for minutes without using the processor; each block is a chance to stop.
IDLE = "SELECT sleepEachRow(0.1) FROM numbers(3000) SETTINGS max_block_size = 1"
RUNNING = (
    "SELECT count() FROM system.processes WHERE query LIKE '%{}%' AND query NOT LIKE '%processes%'"
)
MERGE_TREE = "(id UInt64, text String) ENGINE = MergeTree ORDER BY id"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("embedded") / "data") as server:
        yield server


def _running(server: EmbeddedServer, words: str) -> int:
    return int(server.run(RUNNING.format(words)))


def _begun(server: EmbeddedServer, sql: str) -> http.client.HTTPConnection:
    """A connection on which *sql* was sent, but no answer read."""
    connection = server.connection()
    connection.request("POST", "/", body=sql.encode())
    return connection


@pytest.fixture(scope="module")
def wide(server: EmbeddedServer) -> str:
    """A table of a million rows of 200 bytes."""
    server.run(f"CREATE TABLE wide {MERGE_TREE}")
    server.run("INSERT INTO wide SELECT number, repeat('x', 200) FROM numbers(1000000)")
    return "wide"


def test_a_large_result_is_streamed_in_bounded_memory(server: EmbeddedServer, wide: str) -> None:
    before = server.rss_bytes()
    connection = _begun(server, f"SELECT * FROM {wide}")
    answer = connection.getresponse()
    size = highest = 0
    while piece := answer.read(MEGABYTE):
        size += len(piece)
        highest = max(highest, server.rss_bytes())
    connection.close()
    assert size > 200_000_000
    assert highest - before < 150 * MEGABYTE


def test_a_slow_reader_holds_the_query_back_instead_of_filling_memory(
    server: EmbeddedServer, wide: str
) -> None:
    before = server.rss_bytes()
    connection = _begun(server, f"SELECT a.* FROM {wide} AS a, numbers(100) AS b")
    answer = connection.getresponse()
    read = 0
    while read < 20 * MEGABYTE:
        read += len(answer.read(MEGABYTE))
        assert server.rss_bytes() - before < 200 * MEGABYTE
    assert _running(server, "AS b") == 1
    answer.close()
    connection.close()
    wait_until("the query ended", lambda: _running(server, "AS b") == 0)


@pytest.mark.parametrize("sql", [LONG, "INSERT INTO FUNCTION null('a UInt64') " + LONG])
def test_a_query_ends_when_its_client_leaves(server: EmbeddedServer, sql: str) -> None:
    connection = _begun(server, sql)
    wait_until("the query runs", lambda: _running(server, "sipHash64") == 1)
    connection.close()
    wait_until("the query ended", lambda: _running(server, "sipHash64") == 0)


def test_a_query_is_killed_by_the_id_that_its_client_gave_it(server: EmbeddedServer) -> None:
    with ThreadPoolExecutor(1) as threads:
        reply = threads.submit(server.ask, LONG, {"query_id": "long one"})
        wait_until("the query runs", lambda: _running(server, "sipHash64") == 1)
        server.run("KILL QUERY WHERE query_id = 'long one' SYNC")
        assert reply.result(20).code == 394


def test_an_error_in_the_middle_ends_the_body_with_its_text_and_cuts_the_connection(
    server: EmbeddedServer,
) -> None:
    connection = _begun(server, "SELECT number, throwIf(number = 3000000) FROM numbers(4000000)")
    with connection.getresponse() as answer:
        assert answer.status == 200
        with pytest.raises(http.client.IncompleteRead) as cut:
            answer.read()
    assert b"Code: 395" in cut.value.partial[-2000:]
    connection.close()


def test_many_queries_run_side_by_side_and_the_65th_is_refused(server: EmbeddedServer) -> None:
    with ThreadPoolExecutor(40) as threads:
        quick = list(threads.map(lambda n: server.run(f"SELECT {n}"), range(300)))
        assert quick == [str(n) for n in range(300)]
    connections = [_begun(server, IDLE) for _ in range(64)]
    try:
        wait_until("refuses", lambda: server.ask("SELECT 1").code == 202)
        assert server.ask(method="GET", path="/ping").status == 200
    finally:
        for connection in connections:
            connection.close()
    _wait_for_none(server, "sleepEachRow")


@pytest.mark.parametrize("wait_seconds", [0, 0.02, 0.05, 0.2])
def test_queries_end_at_whatever_point_their_clients_leave(
    server: EmbeddedServer, wait_seconds: float
) -> None:
    connections = [_begun(server, IDLE) for _ in range(40)]
    threading.Event().wait(wait_seconds)
    for connection in connections:
        connection.close()
    _wait_for_none(server, "sleepEachRow")


def _wait_for_none(server: EmbeddedServer, words: str) -> None:
    left = RUNNING.format(words)
    wait_until("all ended", lambda: server.ask(left).text.strip() == "0", seconds_max=30)


def test_a_large_insert_is_taken_in_bounded_memory(server: EmbeddedServer) -> None:
    """Native blocks of two columns: 1.6 million rows, 170 MB when inflated."""
    server.run(f"CREATE TABLE large {MERGE_TREE}")
    rows = 16_000
    block = server.ask(
        f"SELECT number AS id, randomPrintableASCII(100) AS text FROM numbers({rows}) FORMAT Native"
    ).body
    frame = zstd.compress(block, 1)
    before = server.rss_bytes()
    highest = _watched(
        server,
        lambda: (
            server.ask(
                "INSERT INTO large (id, text) FORMAT Native",
                {"max_insert_threads": "1"},
                body=(frame for _ in range(100)),
                headers={"Content-Encoding": "zstd"},
            ).status
        ),
    )
    assert server.run("SELECT count() FROM large") == str(100 * rows)
    server.run("DROP TABLE large SYNC")
    # The engine gathers blocks of up to 256 MiB by default, and sorts them in as much again.
    assert highest - before < 900 * MEGABYTE


def test_a_bomb_is_inflated_in_pieces_and_up_to_a_limit(server: EmbeddedServer) -> None:
    server.run(f"CREATE TABLE IF NOT EXISTS bomb {MERGE_TREE}")
    frame = zstd.compress(b"\n" * (1100 * MEGABYTE), 1)
    assert len(frame) < MEGABYTE
    before = server.rss_bytes()
    replies: list[Reply] = []
    highest = _watched(
        server,
        lambda: replies.append(
            server.ask(
                "INSERT INTO bomb FORMAT TSV", body=frame, headers={"Content-Encoding": "zstd"}
            )
        ),
    )
    assert replies[0].code == 307
    assert replies[0].status == 413
    assert highest - before < 200 * MEGABYTE, "what is gathered for the engine does not count"
    statement = zstd.compress(b" " * (16 * MEGABYTE))
    reply = server.ask(body=statement, headers={"Content-Encoding": "zstd"})
    assert reply.code == 307


def _watched(server: EmbeddedServer, work: Callable[[], object]) -> int:
    """The most memory that the server had while *work* ran."""
    done = threading.Event()
    highest = 0
    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(work)
        job.add_done_callback(lambda _job: done.set())
        while not done.wait(0.01):
            highest = max(highest, server.rss_bytes())
        job.result()
    return highest


def test_an_insert_whose_client_leaves_stores_nothing(server: EmbeddedServer) -> None:
    server.run(f"CREATE TABLE half {MERGE_TREE}")
    query = urllib.parse.quote("INSERT INTO half FORMAT TSV")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            f"POST /?query={query} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
            + b"Content-Length: 9999999\r\n\r\n"
            + b"1\ta\n" * 500_000
        )
    assert server.run("SELECT count() FROM half") == "0"


def _insert_until_killed(server: EmbeddedServer, first: int, acknowledged: list[int]) -> None:
    for number in range(first, first + 10_000):
        try:
            reply = server.ask(
                "INSERT INTO acknowledged FORMAT TSV",
                {"insert_deduplication_token": str(number)},
                body=f"{number}\ta\n".encode(),
            )
        except OSError:
            return
        assert reply.status == 200, reply.text
        acknowledged.append(number)


def _has_more(items: list[int], count: int) -> bool:
    return len(items) > count


def test_h6_what_was_acknowledged_survives_kill_9_and_tokens_do_too(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    acknowledged: list[int] = []
    with server:
        server.run(
            f"CREATE TABLE acknowledged {MERGE_TREE} "
            "SETTINGS non_replicated_deduplication_window = 10000"
        )
        for round_number in range(2):
            wanted = len(acknowledged) + 100
            with ThreadPoolExecutor(1) as threads:
                inserting = threads.submit(
                    _insert_until_killed, server, round_number * 10_000, acknowledged
                )
                wait_until("inserted", partial(_has_more, acknowledged, wanted))
                server.end(signal.SIGKILL)
                inserting.result(30)
            server.start()
            stored = {int(line) for line in server.run("SELECT id FROM acknowledged").split()}
            assert set(acknowledged) <= stored
            assert server.run("SELECT count() - uniqExact(id) FROM acknowledged") == "0"
        again = server.ask(
            "INSERT INTO acknowledged FORMAT TSV",
            {"insert_deduplication_token": str(acknowledged[-1])},
            body=f"{acknowledged[-1]}\ta\n".encode(),
        )
        assert again.status == 200
        assert server.run("SELECT count() - uniqExact(id) FROM acknowledged") == "0"


def test_sigterm_waits_for_running_queries_and_a_restart_finds_everything(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "data") as server:
        server.run(f"CREATE TABLE kept {MERGE_TREE}")
        server.run("INSERT INTO kept VALUES (1, 'a')")
        with ThreadPoolExecutor(1) as threads:
            reply = threads.submit(server.ask, "SELECT sleep(2), 'finished'")
            wait_until("the query runs", lambda: _running(server, "finished") == 1)
            assert server.end(signal.SIGTERM) == 0
            assert reply.result(10).text == "0\tfinished\n"
        server.start()
        assert server.run("SELECT id, text FROM kept") == "1\ta"
        assert server.ask("SELECT * FROM default.x").code == 497


def test_sigterm_ends_what_does_not_end_by_itself(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "data", drain_seconds=0.5) as server:
        connection = _begun(server, LONG)
        wait_until("the query runs", lambda: _running(server, "sipHash64") == 1)
        assert server.end(signal.SIGTERM) == 0
        connection.close()


def test_a_second_server_on_the_folder_says_what_is_wrong(server: EmbeddedServer) -> None:
    second = EmbeddedServer(server.data)
    assert second.spawn().wait(30) == 1
    assert "another ClickHouse server uses" in second.output.read_text()
    assert server.run("SELECT 1") == "1"


def test_a_port_in_use_is_said_plainly(server: EmbeddedServer, tmp_path: Path) -> None:
    second = EmbeddedServer(tmp_path / "data")
    second.port = server.port
    assert second.spawn().wait(30) == 1
    assert f"port {server.port} on 127.0.0.1 is in use" in second.output.read_text()


def test_other_machines_are_not_served_without_a_password(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data", host="0.0.0.0")
    assert server.spawn().wait(30) == 1
    assert "CLICKHOUSE_PASSWORD must be set" in server.output.read_text()
    assert not os.listdir(tmp_path)


def test_a_folder_that_the_engine_would_take_for_options_is_refused(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "what?" / "data")
    assert server.spawn().wait(30) == 1
    assert "has no '?' and no '&' in it" in server.output.read_text()
    assert not (tmp_path / "what").exists()


def test_what_a_search_unpacked_of_an_index_stays_in_memory(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "it's a folder" / "data") as server:
        server.run(
            "CREATE TABLE words (body String, INDEX word body TYPE tokenbf_v1(32768, 3, 0)"
            " GRANULARITY 1) ENGINE = MergeTree ORDER BY ()"
        )
        server.run("INSERT INTO words SELECT 'line ' || number FROM numbers(100000)")
        for _ in range(2):
            server.run("SELECT count() FROM words WHERE hasToken(body, '77777')")
        (cached,) = server.rows(
            "SELECT sum(value) AS bytes FROM system.metrics"
            " WHERE metric = 'IndexUncompressedCacheBytes'"
        )
        assert int(str(cached["bytes"])) >= 12 * 32_768
