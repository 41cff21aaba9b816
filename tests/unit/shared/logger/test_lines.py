"""Lines of logs: secrets masked, one line each, with the ids that connect them."""

import json
import logging
import os
from uuid import uuid4

import pytest

from shared.caller import Caller, acting_as
from shared.logger.formatters import ContextFilter, JsonFormatter, ScreenFormatter
from shared.logger.redaction import MESSAGE_CHARACTERS_MAX, redacted

TOKEN = "eyJhbGciOiJFZDI1NTE5In0.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def record(text: str) -> logging.LogRecord:
    made = logging.LogRecord("shared.x", logging.INFO, __file__, 1, text, None, None)
    ContextFilter().filter(made)
    return made


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


def test_what_is_no_secret_stays() -> None:
    assert redacted("user ada@example.com, code 5") == "user ada@example.com, code 5"


def test_a_long_text_is_cut() -> None:
    assert len(redacted("x" * 10 * MESSAGE_CHARACTERS_MAX)) == MESSAGE_CHARACTERS_MAX


def test_S64_nobody_fakes_a_second_line() -> None:
    line = ScreenFormatter("api").format(record("one\nerror: two\x1b[31m\u2028three"))

    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert "\n" not in JsonFormatter("api").format(record("one\ntwo"))


def test_a_line_tells_whose_request_it_belongs_to() -> None:
    user_id, tenant_id = uuid4(), uuid4()

    with acting_as(Caller(user_id=user_id, tenant_id=tenant_id, request_id="r-1")):
        line = json.loads(JsonFormatter("api").format(record("hello")))

    assert (line["requestId"], line["userId"], line["tenantId"]) == (
        "r-1",
        str(user_id),
        str(tenant_id),
    )
    assert (line["process"], line["level"], line["message"]) == ("api", "INFO", "hello")


@pytest.mark.parametrize(
    "text",
    [
        "a\u2028b",
        "a\u2029b",
        "a\x85b",
        "a\x9b31mb",
        "a\x1b[31mb",
        "a\rb",
        "a\nb",
        "a\x7fb",
        "a\x00b",
    ],
)
def test_S64_no_character_fakes_a_line_or_moves_a_terminal(text: str) -> None:
    line = JsonFormatter("api").format(record(text))
    shown = ScreenFormatter("api").format(record(text))

    assert json.loads(line)["message"] == text
    assert line.isprintable()
    assert shown.isprintable()


def test_S64_bytes_that_are_no_text_are_escaped_and_the_line_stays() -> None:
    text = os.fsdecode(b"/data/\xff\xfe.csv")

    line = JsonFormatter("api").format(record(text))
    shown = ScreenFormatter("api").format(record(text))

    assert json.loads(line)["message"] == r"/data/\udcff\udcfe.csv"
    assert shown.endswith(r"/data/\udcff\udcfe.csv")


def test_a_message_whose_arguments_do_not_fit_is_told_as_it_is() -> None:
    made = logging.LogRecord("shared.x", logging.INFO, __file__, 1, "%d things", ("no",), None)
    ContextFilter().filter(made)

    assert json.loads(JsonFormatter("api").format(made))["message"] == "%d things ('no',)"
