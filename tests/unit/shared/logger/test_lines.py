"""Lines of logs: secrets masked, one line each, with the ids that connect them."""

import json
import logging
import sys
import time
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from shared.caller import Caller, acting_as
from shared.logger.context import log_context
from shared.logger.formatters import JsonFormatter, ScreenFormatter
from shared.logger.redaction import MESSAGE_CHARACTERS_MAX, redacted
from shared.logger.set_up import LEVELS

TOKEN = "eyJhbGciOiJFZDI1NTE5In0.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def record(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("shared.x", level, __file__, 1, text, None, None)


@pytest.mark.parametrize(
    "secret",
    [
        "tfs_0123456789abcdef0123",
        "tfr_Zm9vYmFyYmF6cXV4Zm9v-_x",
        "tfi_Zm9vYmFyYmF6cXV4Zm9v",
        TOKEN,
        "Bearer abcdef",
        '{"password": "pa\\"ss", "email": "a@b.de"}',
        "{'newPassword': 'x y'}",
        '{"code": "123456"}',
        '{"refreshToken":"anything at all"}',
        '{"code": 123456, "n": 1}',
        '{"backupCodes": ["123456-x", "abcdef"]}',
        r"{\"client_secret\": \"anything\"}",
        "Authorization: Basic abcdef",
        "authorization=abcdef",
        'authorization: Digest username="x y", response="abcdef"\n',
        "(b'authorization', b'Bearer abcdef')",
        "X-Api-Key-Secret: abcdef",
        "Cookie: session=abcdef; other=anything\n",
        "/callback?code=123456&state=1",
        "postgres://user:abcdef@host/db",
        "bearer abcdef",
        TOKEN.rpartition(".")[0],
    ],
)
def test_S64_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    text = redacted(f"before {secret} after")

    for part in (
        "0123456789abcdef",
        "Zm9v",
        "eyJ",
        "abcdef",
        'pa\\"ss',
        "x y",
        "123456",
        "anything",
    ):
        assert part not in text
    assert text.startswith("before")
    assert "after" in text


def test_S64_a_secret_that_is_cut_is_masked_to_its_end() -> None:
    assert redacted('{"password": "anything') == '{"password": "********"'


@pytest.mark.parametrize(
    "text",
    [
        "user ada@example.com, code 5",
        '{"email": "ada@example.com", "status": 200}',
        "a token of tfk_0123456789abcdef was used",
        "http://host:4318/v1/traces",
        '{"token": null}',
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "piece",
    ["token", '"token', "\\\\", '\\\\"', "eyJ", "://a:", '"password":["', "cookie: a;", " :"],
)
def test_no_text_takes_long(piece: str) -> None:
    text = "token cookie" + piece * MESSAGE_CHARACTERS_MAX

    begun = time.process_time()
    redacted(text)

    assert time.process_time() - begun < 0.2


def test_a_long_text_is_cut() -> None:
    assert len(redacted("x" * 10 * MESSAGE_CHARACTERS_MAX)) == MESSAGE_CHARACTERS_MAX


def test_S64_nobody_fakes_a_second_line() -> None:
    line = ScreenFormatter("api").format(record("one\nerror: two\x1b[31m\u2028three"))

    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    line = JsonFormatter("api").format(record("one\ntwo\x1b[31m\u2028\x85\x9b31m\u202e"))
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert json.loads(line)["message"] == "one\ntwo\x1b[31m\u2028\x85\x9b31m\u202e"


def test_S64_bytes_that_are_no_text_hide_no_line() -> None:
    line = JsonFormatter("api").format(record(b"curl \xff".decode("utf-8", "surrogateescape")))

    assert json.loads(line)["message"] == "curl \\udcff"


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.CRITICAL, "error"),
        (logging.ERROR, "error"),
        (logging.WARNING, "warn"),
        (logging.INFO, "info"),
        (logging.DEBUG, "debug"),
        (LEVELS["verbose"], "verbose"),
    ],
)
def test_levels_have_names_of_their_own(level: int, name: str) -> None:
    assert json.loads(JsonFormatter("api").format(record("hello", level)))["level"] == name
    assert ScreenFormatter("api").format(record("hello", level)) == f"api {name}: hello"


def test_a_line_tells_whose_request_it_belongs_to() -> None:
    user_id, tenant_id = uuid4(), uuid4()

    with acting_as(Caller(user_id=user_id, tenant_id=tenant_id, request_id="r-1")):
        line = json.loads(JsonFormatter("api").format(record("hello")))

    assert (line["requestId"], line["userId"], line["tenantId"]) == (
        "r-1",
        str(user_id),
        str(tenant_id),
    )
    assert (line["process"], line["level"], line["message"]) == ("api", "info", "hello")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None


def test_what_is_noted_goes_over_the_caller_and_ends_with_its_block() -> None:
    with acting_as(Caller(request_id="r-1")), log_context(request_id="r-2", user_id=UUID(int=7)):
        with log_context(tenant_id=UUID(int=8)):
            inner = json.loads(JsonFormatter("api").format(record("hello")))
        outer = json.loads(JsonFormatter("api").format(record("hello")))

    assert inner["requestId"] == outer["requestId"] == "r-2"
    assert inner["userId"] == str(UUID(int=7))
    assert inner["tenantId"] == str(UUID(int=8))
    assert "tenantId" not in outer


def test_a_line_tells_its_trace() -> None:
    span = SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1))

    with use_span(NonRecordingSpan(span)):
        made = record("hello")
        line = json.loads(JsonFormatter("api").format(made))

    assert (line["traceId"], line["spanId"], line["traceFlags"]) == (f"{10:032x}", f"{11:016x}", 1)
    assert ScreenFormatter("api").format(made) == "api info [00000000]: hello"


def test_an_error_is_told_without_its_secrets() -> None:
    try:
        raise ValueError("password=secret1")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()

    line = json.loads(JsonFormatter("api").format(made))

    assert line["exception"].endswith("ValueError: password=********")
