"""What a receiver and the gateway say to each other about one OTLP export."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from ingest.directory import Principal
from ingest.memory_budget import MemoryBudget
from ingest.signals import Signal
from shared.security.credentials import Credentials

# So that an answer always fits the 4 MiB that OTLP allows a response (C028).
MESSAGE_CHARACTERS_MAX: Final = 1_000


class Encoding(StrEnum):
    """How the body of an export request is encoded."""

    PROTOBUF = "protobuf"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Answer:
    """Success, in full or in part.

    `rejected` counts the items that were refused; with `message` empty and none rejected,
    `partial_success` stays unset. A message without rejected items is a warning.
    """

    rejected: int = 0
    message: str = ""


FULL_SUCCESS: Final = Answer()


class Exporter(Protocol):
    """The gateway, as receivers see it. Only errors of `shared.errors` leave it."""

    budget: MemoryBudget

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:
        """Raise what `export` would, for these credentials; no I/O, before any body is read."""

    async def export(
        self, signal: Signal, credentials: Credentials, encoding: Encoding, body: bytes
    ) -> Answer:
        """Make the request durable and answer; *body* is decompressed."""

    def ready(self) -> str | None:
        """None when exports can succeed now, else the reason why not."""
