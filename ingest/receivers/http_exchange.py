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
        "wire_bytes",
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
        # Of a chunked body: what was read so far, its framing included.
        self.wire_bytes = 0
        self.complete = False
        self.response: bytes | None = None
        self.task: asyncio.Task[None] | None = None
        self.deadline = 0.0
        self.expired = False

    @property
    def overhead_bytes(self) -> int:
        """What was read of a chunked body beyond its data; data excuses a fourth of itself.

        Chunks of 24 bytes or more cost nothing, whatever their number.
        """
        return self.wire_bytes - self.received_bytes - self.received_bytes // 4

    def rest_of_body(self, length: int) -> memoryview:
        """Where to receive what is missing of a body of that length: never copied after that.

        A BytesIO made of a bytes object that nobody else holds writes into that very object, and
        getvalue, once no view is left, gives it back.
        """
        self.sink = BytesIO(bytes(length))
        view = self.sink.getbuffer()
        at = 0
        for piece in self.pieces:
            view[at : at + len(piece)] = piece
            at += len(piece)
        self.pieces.clear()
        return view[at:]

    def drop_body(self) -> None:
        """What was received of the body is not wanted; what it held is given back."""
        self.hold.release()
        self.pieces.clear()
        self.sink = None

    def take_body(self) -> bytes:
        """The whole body, which is not kept here any longer."""
        sink, self.sink = self.sink, None
        if sink is not None:
            return sink.getvalue()
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)
