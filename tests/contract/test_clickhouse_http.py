"""The embedded server speaks ClickHouse's HTTP interface, as far as clients of ours need it."""

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import Iterator

import clickhouse_connect
import lz4.frame
import pytest
from backports import zstd
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.integration.shared.embedded_server import EmbeddedServer, Reply

COMPRESSIONS = (False, "lz4", "zstd", "gzip")
TOKEN = "insert_deduplication_token"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("http") / "data") as server:
        yield server


@pytest.fixture
def table(server: EmbeddedServer) -> str:
    """An empty table that remembers the tokens of inserts."""
    server.run("DROP TABLE IF EXISTS items SYNC")
    server.run(
        "CREATE TABLE items (id UInt64, text String) ENGINE = MergeTree ORDER BY id "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    return "items"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_sync_client_of_clickhouse_connect_works(
    server: EmbeddedServer, table: str, compression: bool | str
) -> None:
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=server.port, compress=compression, autogenerate_session_id=False
    )
    with client:
        client.insert(table, [[1, "a"], [2, "it's \\ \n"]], column_names=["id", "text"])
        found = client.query(
            "SELECT id FROM items WHERE text = {text:String}", parameters={"text": "it's \\ \n"}
        )
        assert found.result_rows == [(2,)]
        with client.query_row_block_stream("SELECT number FROM numbers(200000)") as blocks:
            assert sum(len(block) for block in blocks) == 200_000
        with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
            client.query("SELECT * FROM missing")


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_the_async_client_of_clickhouse_connect_works(
    server: EmbeddedServer, table: str, compression: bool | str
) -> None:
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1", port=server.port, compress=compression, autogenerate_session_id=False
    )
    async with client:
        await client.insert(table, [[1, "a"]], column_names=["id", "text"])
        answers = await asyncio.gather(
            *(client.query("SELECT {n:UInt8}", parameters={"n": n}) for n in range(50))
        )
        assert [answer.result_rows[0][0] for answer in answers] == list(range(50))
        assert (await client.query("SELECT count() FROM items")).result_rows == [(1,)]


async def test_parameters_that_are_too_long_for_a_url_come_in_a_form(
    server: EmbeddedServer,
) -> None:
    many = [f"it's \\ {number}" for number in range(1_000)]
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1", port=server.port, autogenerate_session_id=False
    )
    async with client:
        found = await client.query(
            "SELECT arrayJoin({many:Array(String)}) AS one, {n:UInt8}",
            parameters={"many": many, "n": 7},
            settings={"max_result_rows": "1000"},
        )
        assert found.result_rows == [(one, 7) for one in many]
        for too_much in (["x" * 131_073], [*many, "x" * 131_073]):
            with pytest.raises(DatabaseError, match="at most 131072 bytes"):
                await client.query("SELECT {m:Array(String)}", parameters={"m": too_much})


def _form(*fields: tuple[str, str]) -> bytes:
    parts = [
        f"--x\r\nContent-Disposition: form-data; {name}\r\n\r\n{text}\r\n" for name, text in fields
    ]
    return "".join([*parts, "--x--\r\n"]).encode()


def test_s44_a_form_reaches_no_further_than_a_body(server: EmbeddedServer, table: str) -> None:
    def asked(body: bytes, **headers: str) -> Reply:
        sent = {"Content-Type": "multipart/form-data; boundary=x", **headers}
        return server.ask("", body=body, headers=sent)

    one = ('name="query"', "SELECT 1")
    assert asked(_form(('name="query"', "SELECT {n:UInt8}"), ('name="param_n"', "7"))).text == "7\n"
    assert asked(_form(('name="query"', "SELECT * FROM file('/etc/passwd')"))).code == 497
    assert asked(_form(one, *((f'name="{n}"', "") for n in range(1_000)))).code == 307
    assert asked(_form(one, ('name="t"; filename="t"', "1"))).code == 48
    assert asked(_form(one), **{"Content-Encoding": "gzip"}).code == 48
    assert asked(b"no form").status == 400
    insert = asked(_form(('name="query"', f"INSERT INTO {table} VALUES (1, 'a')")))
    assert (insert.status, server.run(f"SELECT count() FROM {table}")) == (200, "1")


def _frames(encoding: str, pieces: list[bytes]) -> bytes:
    compress = {
        "zstd": zstd.compress,
        "lz4": lz4.frame.compress,
        "gzip": gzip.compress,
        "deflate": zlib.compress,
    }[encoding]
    return b"".join(compress(piece) for piece in pieces)


@pytest.mark.parametrize("encoding", ["zstd", "lz4", "gzip"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_several_frames_is_one_insert(
    server: EmbeddedServer, table: str, encoding: str, chunked: bool
) -> None:
    pieces = [f"{n}\t{'x' * (n % 50)}\n".encode() * 100 for n in range(50)]
    body = _frames(encoding, pieces)
    cut = (body[at : at + 7] for at in range(0, len(body), 7)) if chunked else body
    reply = server.ask(
        f"INSERT INTO {table} (id, text) FORMAT TSV",
        body=cut,
        headers={"Content-Encoding": encoding},
    )
    assert reply.status == 200, reply.text
    assert server.run(f"SELECT count(), sum(id) FROM {table}") == "5000\t122500"
    parts = f"SELECT count() FROM system.parts WHERE table = '{table}' AND active"
    assert server.run(parts) == "1"


@pytest.mark.parametrize("encoding", ["zstd", "lz4", "gzip", "deflate"])
def test_a_damaged_or_unfinished_body_stores_nothing(
    server: EmbeddedServer, table: str, encoding: str
) -> None:
    whole = _frames(encoding, [b"1\ta\n" * 1000])
    for body in (whole[:-6], b"\xff" * 100, whole[:10] + b"\0" * 30):
        reply = server.ask(
            f"INSERT INTO {table} FORMAT TSV", body=body, headers={"Content-Encoding": encoding}
        )
        assert reply.status >= 400
        assert reply.code == 271
    assert server.run(f"SELECT count() FROM {table}") == "0"


def test_an_unknown_encoding_is_refused(server: EmbeddedServer) -> None:
    reply = server.ask("SELECT 1", body=b" ", headers={"Content-Encoding": "snappy"})
    assert reply.code == 271
    for name in ("compress", "decompress"):
        assert server.ask("SELECT 1", {name: "1"}).code == 48


def test_an_insert_is_repeated_with_its_token_and_stored_once(
    server: EmbeddedServer, table: str
) -> None:
    for token, rows in (("one", 1), ("one", 1), ("two", 2)):
        reply = server.ask(f"INSERT INTO {table} FORMAT CSV", {TOKEN: token}, body=b"7,'x'\n")
        assert reply.status == 200
        assert server.run(f"SELECT count() FROM {table}") == str(rows)


def test_the_settings_of_the_writers_inserts_are_accepted(
    server: EmbeddedServer, table: str
) -> None:
    settings = {
        TOKEN: "three",
        "async_insert": "0",
        "max_insert_threads": "1",
        "min_insert_block_size_rows": "10000000",
        "min_insert_block_size_bytes": "4000000000",
        "exclude_materialize_skip_indexes_on_insert": "idx_a,idx_b",
        "deduplicate_blocks_in_dependent_materialized_views": "1",
        "materialize_skip_indexes_on_insert": "1",
    }
    reply = server.ask(f"INSERT INTO {table} FORMAT TSV", settings, body=b"1\ta\n2\tb\n")
    assert reply.status == 200, reply.text
    summary = json.loads(reply.headers["X-ClickHouse-Summary"])
    assert summary["written_rows"] == "2"


@pytest.mark.parametrize(
    ("sql", "settings", "code", "status"),
    [
        ("SELECT * FROM missing", {}, 60, 404),
        ("SELECT * FROM missing.t", {}, 81, 404),
        ("SELECT nothing", {}, 47, 404),
        ("SELEC 1", {}, 62, 400),
        ("SELECT 1; SELECT 2", {}, 62, 400),
        ("SELECT 1", {"no_such_setting": "1"}, 115, 404),
        ("SELECT 1", {"bad'name": "1"}, 115, 404),
        ("SELECT sleep(3)", {"max_execution_time": "0.1"}, 159, 500),
        (
            "SELECT groupArray(number) FROM numbers(50000000)",
            {"max_memory_usage": "9000000"},
            241,
            500,
        ),
        ("SELECT 1", {"database": "missing"}, 81, 404),
    ],
)
def test_errors_carry_clickhouses_codes(
    server: EmbeddedServer, sql: str, settings: dict[str, str], code: int, status: int
) -> None:
    reply = server.ask(sql, settings)
    assert (reply.code, reply.status) == (code, status), reply.text
    assert reply.text.startswith("Code: ") or f"Code: {code}" in reply.text


def test_an_error_whose_text_is_not_utf8_is_an_error_like_others(server: EmbeddedServer) -> None:
    reply = server.ask("SELECT CAST(unhex('b4b4'), 'UInt8')")
    assert reply.status >= 400
    assert reply.code != 0


def test_rows_that_do_not_parse_are_refused_with_the_datas_code(
    server: EmbeddedServer, table: str
) -> None:
    reply = server.ask(f"INSERT INTO {table} FORMAT TSV", body=b"word\ta\n")
    assert reply.code in (27, 72), reply.text
    assert server.run(f"SELECT count() FROM {table}") == "0"


def test_a_query_may_come_in_the_url_with_the_format_of_its_choice(server: EmbeddedServer) -> None:
    for method in ("GET", "POST"):
        reply = server.ask("SELECT 1 AS a FORMAT JSON", method=method, body=b" ")
        assert json.loads(reply.body)["data"] == [{"a": 1}]
        assert reply.headers["X-ClickHouse-Format"] == "JSON"
        assert reply.headers["Content-Type"].startswith("application/json")
    reply = server.ask("SELECT 1 AS a", {"default_format": "JSONEachRow"}, method="GET")
    assert reply.text == '{"a":1}\n'
    reply = server.ask("SELECT 1 AS a", headers={"X-ClickHouse-Format": "CSVWithNames"})
    assert reply.text == '"a"\n1\n'
    assert server.ask("SELECT 1, 'a'", method="GET").text == "1\ta\n"


def test_the_summary_tells_what_was_read_not_what_came_out(
    server: EmbeddedServer, table: str
) -> None:
    server.run(f"INSERT INTO {table} SELECT number, 'x' FROM numbers(1000)")

    sql = f"SELECT count() FROM {table} WHERE id >= 0 AND text = 'x'"
    reply = server.ask(sql, {"use_query_condition_cache": "0"})

    found = json.loads(reply.headers["X-ClickHouse-Summary"])
    assert (reply.text, found["read_rows"]) == ("1000\n", "1000")


def test_the_answer_names_query_and_time_zone(server: EmbeddedServer) -> None:
    reply = server.ask("SELECT 1", {"query_id": "mine"})
    assert reply.headers["X-ClickHouse-Query-Id"] == "mine"
    assert reply.headers["X-ClickHouse-Timezone"] == "UTC"
    assert all(
        isinstance(n, str) for n in json.loads(reply.headers["X-ClickHouse-Summary"]).values()
    )


def test_liveness_is_answered_without_a_query(server: EmbeddedServer) -> None:
    for path in ("/ping", "/replicas_status", "/"):
        assert server.ask(method="GET", path=path).text.strip() == "Ok."
    assert server.ask(method="PUT").status == 405
    assert server.ask("").code == 62


@pytest.mark.parametrize(
    ("kind", "sent", "length"),
    [
        ("String", "a' or 1=1 --", 12),
        ("String", "{p:String}", 10),
        ("String", "%27;x", 5),
        ("String", "a\\nb", 3),
        ("Array(String)", "['a','b']", 2),
    ],
)
def test_s41_a_parameter_is_data(server: EmbeddedServer, kind: str, sent: str, length: int) -> None:
    sql = f"SELECT length({{p:{kind}}})"
    assert server.run(sql, {"param_p": sent}) == str(length)
    assert server.ask(sql, {"param_p": sent}, method="GET").text == f"{length}\n"


@pytest.mark.parametrize("encoding", ["zstd", "lz4", "gzip"])
def test_an_answer_is_compressed_when_it_may_be(server: EmbeddedServer, encoding: str) -> None:
    unpack = {"zstd": zstd.decompress, "lz4": lz4.frame.decompress, "gzip": gzip.decompress}
    for rows in (1, 300_000):
        sql = f"SELECT number FROM numbers({rows})"
        plain = server.ask(sql).body
        asked = {"Accept-Encoding": encoding}
        assert server.ask(sql, headers=asked).body == plain
        reply = server.ask(sql, {"enable_http_compression": "1"}, headers=asked)
        assert reply.headers["Content-Encoding"] == encoding
        assert unpack[encoding](reply.body) == plain


def test_what_comes_by_get_changes_nothing(server: EmbeddedServer, table: str) -> None:
    for sql in (f"INSERT INTO {table} VALUES (1, 'a')", f"DROP TABLE {table}"):
        assert server.ask(sql, method="GET").code == 164
        assert server.ask(sql, {"readonly": "1"}).code == 164
        assert server.ask(sql, {"readonly": "2"}).code == 164
    assert server.run(f"SELECT count() FROM {table}") == "0"
    server.run(f"INSERT INTO {table} VALUES (1, 'a')")
    assert server.run(f"SELECT count() FROM {table}") == "1"


def test_s45_settings_cannot_be_raised_under_readonly_1(server: EmbeddedServer) -> None:
    reply = server.ask("SELECT 1 SETTINGS max_memory_usage = 1", {"readonly": "1"})
    assert reply.code == 164


def test_a_database_is_chosen_by_parameter_or_header(server: EmbeddedServer) -> None:
    server.run("CREATE DATABASE IF NOT EXISTS other ENGINE = Atomic")
    sql = "SELECT currentDatabase()"
    assert server.run(sql) == "telemetry"
    assert server.run(sql, {"database": "default"}) == "telemetry"
    assert server.run(sql, {"database": "other"}) == "other"
    assert server.ask(sql, headers={"X-ClickHouse-Database": "other"}).text.strip() == "other"


def test_a_session_keeps_temporary_tables_and_what_was_set_in_it(server: EmbeddedServer) -> None:
    mine = {"session_id": "mine"}
    server.run("CREATE TEMPORARY TABLE short (a UInt8)", mine)
    server.run("INSERT INTO short VALUES (1), (2)", mine)
    server.run("SET max_threads = 3", mine)
    assert server.run("SELECT sum(a) FROM short", mine) == "3"
    threads = "SELECT getSetting('max_threads')"
    assert server.run(threads, {**mine, "max_threads": "1"}) == "1"
    assert server.run(threads, mine) == "3", "a setting of one request is not the session's"
    assert server.run(threads, {"session_id": "another"}) != "3"
    assert server.ask("SELECT * FROM short").code == 60


def test_a_read_by_get_leaves_its_session_writable(server: EmbeddedServer) -> None:
    mine = {"session_id": "reader"}
    server.run("CREATE TEMPORARY TABLE short (a UInt8)", mine)
    assert server.ask("SELECT 1", mine, method="GET").status == 200
    assert server.ask("DROP TEMPORARY TABLE short", mine, method="GET").code == 164
    server.run("INSERT INTO short VALUES (1)", mine)


def test_a_session_must_exist_where_that_is_asked_and_expires(server: EmbeddedServer) -> None:
    check = {"session_id": "brief", "session_check": "1"}
    assert server.ask("SELECT 1", check).code == 372
    server.run("SELECT 1", {"session_id": "brief", "session_timeout": "0"})
    assert server.ask("SELECT 1", check).code == 372
    assert server.ask("SELECT 1", {"session_id": "x", "session_timeout": "soon"}).code == 374


def test_values_may_hold_expressions_that_stay_inside(server: EmbeddedServer, table: str) -> None:
    server.run(f"INSERT INTO {table} VALUES (1 + 1, concat('a', 'b'));")
    assert server.run(f"SELECT id, text FROM {table}") == "2\tab"


def test_s44_nothing_reaches_outside_of_the_server(server: EmbeddedServer, table: str) -> None:
    path = str(server.data.parent / "stolen.csv")
    (server.data.parent / "stolen.csv").write_text("1\n")
    for sql in (
        f"SELECT * FROM file('{path}')",
        f"SELECT file('{path}')",
        "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String')",
        f"SELECT 1 INTO OUTFILE '{path}.out'",
        f"INSERT INTO {table} FROM INFILE '{path}' FORMAT CSV",
        f"INSERT INTO FUNCTION file('{path}.out', CSV) VALUES (1)",
        f"INSERT INTO {table} VALUES (1, file('{path}'))",
        f"INSERT INTO {table} VALUES (1, 'x'), (2, (SELECT * FROM file('{path}')))",
        f"CREATE TABLE outside (a Int8) ENGINE = File(CSV, '{path}')",
        f"SELECT * FROM default.`{path}`",
        "SYSTEM SHUTDOWN",
    ):
        reply = server.ask(sql)
        assert reply.code == 497, (sql, reply.text)
    # A name that is a path means a file to this engine, unless the server took care.
    for sql in (f"SELECT * FROM `{path}`", f"SELECT * FROM '{path}'"):
        assert server.ask(sql).code == 60
        assert server.ask(sql, {"database": "default"}).code == 60
    assert server.ask("SELECT * FROM {t:Identifier}", {"param_t": path}).code == 60
    both = {"param_d": "default", "param_t": path}
    assert server.ask("SELECT * FROM {d:Identifier}.{t:Identifier}", both).code == 60
    assert not (server.data.parent / "stolen.csv.out").exists()


def test_a_page_of_another_site_is_refused(server: EmbeddedServer) -> None:
    assert server.ask("SELECT 1", headers={"Origin": "https://example.org"}).status == 403
    assert server.ask("SELECT 1", headers={"Host": "rebound.example.org"}).status == 403
    own = f"127.0.0.1:{server.port}"
    assert server.ask("SELECT 1", headers={"Origin": f"http://{own}"}).status == 200
    assert server.ask("SELECT 1", headers={"Host": f"localhost:{server.port}"}).status == 200


def test_wrong_credentials_are_refused_and_all_ways_to_give_them_work(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with EmbeddedServer(tmp_path_factory.mktemp("auth") / "data", password="secret") as server:
        key = base64.b64encode(b"default:secret").decode()
        wrong = base64.b64encode(b"default:guess").decode()
        connection = server.connection()
        for headers, query, status in (
            ({}, "", 403),
            ({"Authorization": f"Basic {key}"}, "", 200),
            ({"Authorization": f"Basic {wrong}"}, "", 403),
            ({"Authorization": "Basic ???"}, "", 403),
            ({"X-ClickHouse-User": "default", "X-ClickHouse-Key": "secret"}, "", 200),
            ({"X-ClickHouse-Key": "secre"}, "", 403),
            ({"X-ClickHouse-User": "root", "X-ClickHouse-Key": "secret"}, "", 403),
            ({}, "&user=default&password=secret", 200),
        ):
            connection.request("GET", f"/?query=SELECT+1{query}", headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status, headers
            if status == 403:
                assert answer.headers["X-ClickHouse-Exception-Code"] == "516"
        connection.close()
        assert server.ask("SELECT 1").text == "1\n"
