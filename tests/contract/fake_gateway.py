"""A gateway by hand: it keeps what it was given and answers what it is told to."""

import asyncio
from dataclasses import dataclass

from ingest.directory import Principal
from ingest.exports import FULL_SUCCESS, Answer, Encoding
from ingest.memory_budget import MemoryBudget
from ingest.signals import Signal
from shared.errors import Unauthenticated
from shared.security.credentials import Credentials

KEY_ID = "tfk_" + "0123456789abcdef" * 2
SECRET = "tfs_" + "0123456789abcdef" * 4
BEARER = f"Bearer {KEY_ID}:{SECRET}"
BUDGET_BYTES = 8 << 20


@dataclass(frozen=True)
class Exported:
    """One call of `export`."""

    signal: Signal
    credentials: Credentials
    encoding: Encoding
    body: bytes


class FakeGateway:
    """Implements Exporter. `answer` may be an error; `gate`, while set, holds exports up."""

    def __init__(self, *, budget_bytes: int = BUDGET_BYTES) -> None:
        self.budget = MemoryBudget(bytes_max=budget_bytes)
        self.exports: list[Exported] = []
        self.answer: Answer | Exception = FULL_SUCCESS
        self.gate: asyncio.Event | None = None
        self.waiting = 0
        self.waiting_max = 0
        self.cancelled = 0
        self.reason: str | None = None
        # A defect, raised where only refusals are expected.
        self.broken: Exception | None = None

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        if self.broken is not None:
            raise self.broken
        if credentials.key_id not in {None, KEY_ID}:
            raise Unauthenticated("unknown API key, or wrong secret")
        return Principal("acme", 30)

    async def export(
        self, signal: Signal, credentials: Credentials, encoding: Encoding, body: bytes
    ) -> Answer:
        self.authenticate(credentials, signal)
        if self.gate is not None:
            await self._wait(self.gate)
        if isinstance(self.answer, Exception):
            raise self.answer
        self.exports.append(Exported(signal, credentials, encoding, body))
        return self.answer

    async def _wait(self, gate: asyncio.Event) -> None:
        self.waiting += 1
        self.waiting_max = max(self.waiting_max, self.waiting)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1

    def ready(self) -> str | None:
        return self.reason
