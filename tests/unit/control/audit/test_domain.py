"""Entries of the audit trail, and files that spreadsheets do not compute."""

import csv
import io
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from control.app import EVENTS
from control.audit.actions import ACTIONS, FAILURES
from control.audit.domain import entry_of, first_digest
from control.audit.personal import PersonKey, Sealed, opened, personal_of, sealed
from shared.logger.redaction import MASK
from shared.spreadsheets import cell_of, csv_of


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
    invited = row(payload={"email": "bob@example.com", "invited_by": "Ada", "sent_count": 1})

    personal = personal_of(invited)

    assert entry_of(invited, sequence=1, personal_digest=b"").metadata == {"sent_count": 1}
    assert personal.subject_id == invited["aggregate_id"]
    assert personal.subject == {"email": "bob@example.com"}
    assert str(personal.actor_id) == invited["context"]["userId"]
    assert personal.actor == {"ip_address": "192.0.2.1", "details": {"invited_by": "Ada"}}


def test_without_its_person_s_key_a_sealed_entry_is_noise() -> None:
    one = row()
    personal, entry_id = personal_of(one), one["event_id"]
    people = (personal.actor_id, personal.subject_id)
    organization_id = one["organization_id"]
    known = {
        (organization_id, person): PersonKey(bytes([number]) * 32)
        for number, person in enumerate(people)
    }
    part = sealed(personal, entry_id, organization_id, known)
    stored = {
        "id": entry_id,
        "organization_id": organization_id,
        "actor_sealed": part.actor_sealed,
        "subject_sealed": part.subject_sealed,
    }

    assert opened(stored, known) == (personal.actor, personal.subject)
    assert opened(stored, {}) == (None, None)
    assert opened(stored | {"id": uuid4()}, known) == (None, None)
    others = {person: PersonKey(b"other " * 6) for person in known}
    assert opened(stored, others) == (None, None)
    assert b"192.0.2.1" not in (part.actor_sealed or b"") + (part.subject_sealed or b"")
    assert sealed(personal, entry_id, organization_id, {}).digest == Sealed().digest


def test_an_address_is_found_by_its_person_s_key_alone() -> None:
    one, other = PersonKey(bytes(32)), PersonKey(bytes([1]) * 32)

    assert one.index("email", " Ada@Example.com") == one.index("email", "ada@example.com")
    assert one.index("email", "ada@example.com") != other.index("email", "ada@example.com")
    assert one.index("email", "192.0.2.1") != one.index("ip_address", "192.0.2.1")


def test_S65_secrets_are_masked_at_any_depth_should_an_event_ever_hold_one() -> None:
    payload = {
        "new_password": "x",
        "api_token": "y",
        "has_mfa": True,
        "changes": {"client": {"Client_Secret": ["a", "b"], "name": "n"}},
        "headers": [{"Authorization": "Basic eA=="}, "curl -H 'Authorization: Bearer abcdef'"],
        "note": "key tfs_" + "0" * 64,
    }

    changed = row(event_type="WorkspaceUpdated", payload=payload)

    entry = entry_of(changed, sequence=1, personal_digest=b"")

    assert entry.metadata == {
        "new_password": MASK,
        "api_token": MASK,
        "has_mfa": True,
        "changes": {"client": {"Client_Secret": MASK, "name": "n"}},
        "headers": [{"Authorization": MASK}, f"curl -H 'Authorization: Bearer {MASK}'"],
        "note": f"key {MASK}",
    }


def test_who_signs_in_is_who_signs_in() -> None:
    signing_in = row(event_type="AuthLogin", context={"actor": "anonymous"}, payload={})

    entry = entry_of(signing_in, sequence=1, personal_digest=b"")

    assert (entry.user_id, entry.action) == (signing_in["aggregate_id"], "auth.login")


def test_G02_a_digest_depends_on_everything_before_it() -> None:
    one = row()
    entry = entry_of(one, sequence=1, personal_digest=b"")
    same = entry_of(one, sequence=1, personal_digest=b"")
    genesis = first_digest(entry.organization_id)

    assert entry.digest(genesis) == same.digest(genesis)
    assert entry.digest(genesis) != entry.digest(first_digest(uuid4()))
    for name, value in (
        ("event_type", "UserDeleted"),
        ("tenant_id", uuid4()),
        ("payload", {"a": 1}),
    ):
        other = entry_of(one | {name: value}, sequence=1, personal_digest=b"")
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
