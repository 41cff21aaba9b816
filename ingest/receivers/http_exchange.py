"""One HTTP request and its answer, from the end of the headers until the answer has left."""

from typing import TYPE_CHECKING

from ingest.exports import Encoding
from ingest.receivers.bodies import Hold

if TYPE_CHECKING:
    import asyncio

    from ingest.receivers.http_requests import Export


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "complete",
        "deadline",
        "encoding",
        "expired",
        "export",
        "extra",
        "hold",
        "keep_alive",
        "pieces",
        "received_bytes",
        "response",
        "started",
        "task",
    )

    def __init__(self, encoding: Encoding, hold: Hold, *, keep_alive: bool, now: float) -> None:
        self.encoding = encoding
        self.hold = hold
        self.keep_alive = keep_alive
        self.started = now
        self.export: Export | None = None
        self.extra = b""
        self.pieces: list[bytes] = []
        self.received_bytes = 0
        self.complete = False
        self.response: bytes | None = None
        self.task: asyncio.Task[None] | None = None
        self.deadline = 0.0
        self.expired = False
