"""The claim of the running request on its Idempotency-Key (shared.http.idempotency).

The transaction that carries the request out marks the claim, so that what it did and the mark are
committed together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from shared.postgres.connection import Connection


@dataclass(frozen=True, slots=True)
class Claim:
    """A key, and whose it is."""

    owner_id: UUID
    key: str


_current: ContextVar[Claim | None] = ContextVar("claim", default=None)


@contextmanager
def claimed(claim: Claim) -> Iterator[None]:
    """Within the block, transactions of commands mark *claim*."""
    token = _current.set(claim)
    try:
        yield
    finally:
        _current.reset(token)


async def mark_claim(connection: Connection, concerned: UUID) -> None:
    """Note within the transaction that the claim's request is carried out on *concerned*."""
    claim = _current.get()
    if claim is not None:
        await connection.execute(
            "UPDATE idempotency_keys SET committed_id = $3 WHERE owner_id = $1 AND key = $2",
            claim.owner_id,
            claim.key,
            concerned,
        )
