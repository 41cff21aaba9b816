"""Both codecs at once: whatever a test puts in, they must tell and write the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from google.protobuf.message import Message

from ingest.codec import Appended, Encoder, Malformed
from ingest.codec.reference import Encoder as ReferenceEncoder
from ingest.codec.reference.native import Reader

NOW_NS: Final = 1_781_524_800_000_000_000  # 2026-06-15 12:00 UTC
DAY_NS: Final = 86_400 * 10**9
RETENTION_DAYS: Final = 30
TENANT: Final = "acme"
TRACE_ID: Final = bytes(range(1, 17))
SPAN_ID: Final = bytes(range(1, 9))

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """What both codecs told about the last request, and the rows that they made of all."""

    appended: Appended
    tables: dict[str, list[Row]]

    @property
    def rows(self) -> list[Row]:
        """The rows of all tables."""
        return [row for rows in self.tables.values() for row in rows]

    @property
    def row(self) -> Row:
        """The only row."""
        [row] = self.rows
        return row


def stored(
    signal: str, *requests: Message | bytes, tenant: str = TENANT, workspace: str = ""
) -> Stored:
    """Puts the requests through both codecs, which must agree to the last byte."""
    whose: dict[str, Any] = {"tenant": tenant, "workspace": workspace}
    compiled = Encoder(signal, retention_days=RETENTION_DAYS)
    reference = ReferenceEncoder(signal, retention_days=RETENTION_DAYS)
    appended = Appended(0, {}, {}, ())
    for body in _bodies(requests):
        appended = compiled.append(body, received_ns=NOW_NS, **whose)
        assert reference.append(body, received_ns=NOW_NS, **whose) == appended
    blocks = compiled.close()
    assert reference.close() == blocks
    return Stored(appended, {block.table: Reader(block.native).rows() for block in blocks})


def refused(signal: str, body: Message | bytes) -> str:
    """Both codecs call the request malformed; what the compiled one says about it."""
    [raw] = _bodies([body])
    with pytest.raises(Malformed):
        ReferenceEncoder(signal, retention_days=1).append(raw, tenant=TENANT, received_ns=NOW_NS)
    with pytest.raises(Malformed) as caught:
        Encoder(signal, retention_days=1).append(raw, tenant=TENANT, received_ns=NOW_NS)
    return str(caught.value)


def _bodies(requests: Sequence[Message | bytes]) -> list[bytes]:
    return [one if isinstance(one, bytes) else one.SerializeToString() for one in requests]
