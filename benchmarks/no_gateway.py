"""What stands behind a receiver that is measured alone."""

from typing import Final

from ingest.directory import Principal
from ingest.exports import FULL_SUCCESS, Answer, Encoding
from ingest.memory_budget import MemoryBudget
from ingest.signals import Signal
from shared.security.credentials import Credentials

PRINCIPAL: Final = Principal("acme", 30)


class NoGateway:
    """Implements Exporter and does nothing."""

    def __init__(self) -> None:
        self.budget = MemoryBudget(bytes_max=256 << 20)

    def authenticate(self, credentials: Credentials, signal: Signal) -> Principal:  # noqa: ARG002
        return PRINCIPAL

    async def export(
        self,
        signal: Signal,  # noqa: ARG002
        credentials: Credentials,  # noqa: ARG002
        encoding: Encoding,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Answer:
        return FULL_SUCCESS

    def ready(self) -> str | None:
        return None
