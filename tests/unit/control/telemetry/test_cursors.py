"""Cursors: good for what they were written for, and for nothing else."""

import base64

import pytest

from control.telemetry.queries.cursors import Cursors
from shared.errors import Invalid

CURSORS = Cursors(b"a key")
PLACE = [1, "18446744073709551615", 2]


def test_S47_a_cursor_says_its_place_to_its_tenant_and_question() -> None:
    written = CURSORS.written("acme", "logs?", PLACE)

    assert CURSORS.read("acme", "logs?", written) == PLACE
    assert Cursors(b"a key").read("acme", "logs?", written) == PLACE


@pytest.mark.parametrize(
    ("cursors", "tenant", "question"),
    [
        (CURSORS, "bolt", "logs?"),
        (CURSORS, "acme", "spans?"),
        (CURSORS, "acmelogs?", ""),
        (Cursors(b"another key"), "acme", "logs?"),
    ],
    ids=["tenant", "question", "both run together", "key"],
)
def test_S47_to_another_it_is_none(cursors: Cursors, tenant: str, question: str) -> None:
    written = CURSORS.written("acme", "logs?", PLACE)

    with pytest.raises(Invalid, match="begin without a cursor"):
        cursors.read(tenant, question, written)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw[:8], lambda _raw: b""])
def test_S47_what_was_changed_is_none(change: object) -> None:
    assert callable(change)
    raw = base64.urlsafe_b64decode(CURSORS.written("acme", "logs?", PLACE))

    for text in (base64.urlsafe_b64encode(change(raw)).decode(), "no base64", "ü"):
        with pytest.raises(Invalid, match="begin without a cursor"):
            CURSORS.read("acme", "logs?", text)
