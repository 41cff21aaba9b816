"""Entries of the audit trail, and files that spreadsheets do not compute."""

import csv
import io
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from control.app import EVENTS
from control.audit.actions import ACTIONS, FAILURES
from control.audit.domain import MASK, entry_of, first_digest
from shared.spreadsheets import cell_of, csv_of

SALT = bytes(16)


def row(**values: Any) -> dict[str, Any]:
    return {
        "event_id": uuid4(),
        "event_type": "UserInvited",
        "aggregate_id": uuid4(),
        "organization_id": uuid4(),
        "tenant_id": None,
        "payload": {"email": "ada@example.com", "sent_count": 1},
        "context": {"actor": "user", "userId": str(uuid4()), "ipAddress": "192.0.2.1"},
        "occurred_at": datetime(2026, 3, 1, tzinfo=UTC),
        **values,
    }


def test_G04_every_event_of_the_product_is_in_the_audit_trail() -> None:
    assert {event.__name__ for event in EVENTS} == ACTIONS.keys()
    assert ACTIONS.keys() >= FAILURES


def test_what_tells_who_a_person_is_stands_apart() -> None:
    entry, personal = entry_of(row(), sequence=1, salt=SALT)

    assert entry.metadata == {"sent_count": 1}
    assert personal.details == {"email": "ada@example.com"}
    assert personal.ip_address == "192.0.2.1"
    assert entry.personal_digest == personal.digest


def test_secrets_are_masked_should_an_event_ever_hold_one() -> None:
    payload = {"new_password": "x", "api_token": "y", "has_mfa": True}

    entry, _ = entry_of(row(payload=payload), sequence=1, salt=SALT)

    assert entry.metadata == {"new_password": MASK, "api_token": MASK, "has_mfa": True}


def test_who_signs_in_is_who_signs_in() -> None:
    signing_in = row(event_type="AuthLogin", context={"actor": "anonymous"}, payload={})

    entry, _ = entry_of(signing_in, sequence=1, salt=SALT)

    assert (entry.user_id, entry.action) == (signing_in["aggregate_id"], "auth.login")


def test_G02_a_digest_depends_on_everything_before_it() -> None:
    one = row()
    entry, _ = entry_of(one, sequence=1, salt=SALT)
    same, _ = entry_of(one, sequence=1, salt=SALT)
    genesis = first_digest(entry.organization_id)

    assert entry.digest(genesis) == same.digest(genesis)
    assert entry.digest(genesis) != entry.digest(first_digest(uuid4()))
    for name, value in (("event_type", "UserDeleted"), ("tenant_id", uuid4()), ("payload", {})):
        other, _ = entry_of(one | {name: value}, sequence=1, salt=SALT)
        assert other.digest(genesis) != entry.digest(genesis), name


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        '"=1',
        "'=1",
        "\uff1d1",
        "\uff0b1",
        "|cmd",
    ],
)
def test_S61_no_cell_is_a_formula(text: str) -> None:
    table = csv_of(["a", "b"], [{"a": text, "b": 1}])

    (_heading, (cell, number)) = list(csv.reader(io.StringIO(table.decode(), newline="")))
    assert cell == f"'{text}"
    assert number == "1"


@pytest.mark.parametrize("text", ["-5", "-5.25", "12", "plain", "a=b", ""])
def test_S61_what_is_no_formula_stays(text: str) -> None:
    assert cell_of(text) == text


def test_S61_text_comes_back_as_it_was() -> None:
    awkward = 'a "quoted", comma\r\nand a line'

    table = csv_of(["a"], [{"a": awkward}, {"a": {"k": [1]}}, {"a": None}])

    rows = list(csv.reader(io.StringIO(table.decode(), newline="")))
    assert rows == [["a"], [awkward], ['{"k":[1]}'], [""]]
