"""One HTTP request and its answer, from the end of the headers until the answer has left."""

from io import BytesIO
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
        "sink",
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
        # The body: in pieces, or for a large one in a buffer of its own.
        self.pieces: list[bytes] = []
        self.sink: BytesIO | None = None
        self.received_bytes = 0
        self.complete = False
        self.response: bytes | None = None
        self.task: asyncio.Task[None] | None = None
        self.deadline = 0.0
        self.expired = False

    def take_body(self) -> bytes:
        """The whole body, which is not kept here any longer."""
        sink, self.sink = self.sink, None
        if sink is not None:
            return sink.getvalue()
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)
