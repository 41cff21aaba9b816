"""The body of a request: decompressed as it comes, in pieces of bounded size."""

from functools import partial
from typing import Final

from aiohttp import web

from shared.clickhouse.embedded.engine import Inserting
from shared.clickhouse.embedded.frames import Plain, decoder
from shared.clickhouse.embedded.replies import refusal
from shared.clickhouse.embedded.work import Threads

# Data goes to the engine in pieces of about this size: each costs a change of threads.
PIECE_BYTES: Final = 1 << 20
BODY_BYTES_MAX: Final = 1 << 32


class Body:
    """What a client sends, read once."""

    def __init__(self, request: web.Request, threads: Threads) -> None:
        self._content = request.content
        self._frames = decoder(request.headers.get("Content-Encoding", ""))
        self._is_plain = isinstance(self._frames, Plain)
        self._threads = threads
        self._received = 0

    async def read(self, bytes_max: int) -> bytes:
        """Some plain bytes more, empty at the end; refused beyond *bytes_max*."""
        while data := await self._next():
            work = partial(self._plain, data, bytes_max)
            if plain := work() if self._is_plain else await self._threads.run(work):
                return plain
        self._frames.finish()
        return b""

    async def feed(self, inserting: Inserting) -> None:
        """Hand everything that is left to *inserting*."""
        gathered: list[bytes] = []
        size = 0
        while data := await self._next():
            gathered.append(data)
            size += len(data)
            if size >= PIECE_BYTES:
                await self._hand_over(inserting, gathered)
                gathered, size = [], 0
        await self._hand_over(inserting, gathered)
        self._frames.finish()

    async def _hand_over(self, inserting: Inserting, gathered: list[bytes]) -> None:
        data = b"".join(gathered)
        if data:
            await self._threads.run(partial(self._append, inserting, data))

    async def _next(self) -> bytes:
        data = await self._content.readany()
        self._received += len(data)
        if self._received > BODY_BYTES_MAX:
            raise refusal("QUERY_IS_TOO_LARGE", f"a body has at most {BODY_BYTES_MAX} bytes")
        return data

    def _append(self, inserting: Inserting, data: bytes) -> None:
        for plain in self._frames.feed(data):
            inserting.append(plain)

    def _plain(self, data: bytes, bytes_max: int) -> bytes:
        pieces = []
        for plain in self._frames.feed(data):
            pieces.append(plain)
            bytes_max -= len(plain)
            if bytes_max < 0:
                raise refusal("QUERY_IS_TOO_LARGE", "the statement is too long")
        return b"".join(pieces)
