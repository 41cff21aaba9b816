"""A TCP proxy that breaks connections where it is told to."""

import asyncio
import contextlib
from collections import deque
from types import TracebackType
from typing import Final, Self

PIECE_BYTES: Final = 16_384
LOST_ANSWER: Final = -1


class FaultProxy:
    """Forwards 127.0.0.1:`port` to *target_port*.

    Each entry of `faults` is for one POST: after so many bytes of it both sides are cut off, or
    with LOST_ANSWER as soon as the server has answered, and the client hears nothing of it.
    """

    def __init__(self, target_port: int) -> None:
        self.faults: deque[int] = deque()
        self.port = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        server, requests = await asyncio.open_connection("127.0.0.1", self._target_port)
        faults: deque[int] = deque()
        try:
            await asyncio.gather(
                self._requests(client, requests, faults), self._answers(server, answers, faults)
            )
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # either side may go at any time: that is what the proxy is for
        finally:
            for writer in (requests, answers):
                writer.transport.abort()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    async def _requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, faults: deque[int]
    ) -> None:
        left: int | None = None
        while piece := await client.read(PIECE_BYTES):
            if piece.startswith(b"POST") and b"insert_deduplication_token" in piece and self.faults:
                fault = self.faults.popleft()
                if fault == LOST_ANSWER:
                    faults.append(fault)
                else:
                    left = fault
            if left is not None:
                server.write(piece[:left])
                left -= len(piece)
                if left <= 0:
                    await server.drain()
                    raise ConnectionResetError("cut on purpose")
            else:
                server.write(piece)
            await server.drain()
        raise ConnectionResetError("the client has gone")

    async def _answers(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, faults: deque[int]
    ) -> None:
        while piece := await server.read(PIECE_BYTES):
            if faults:
                raise ConnectionResetError("lost on purpose")
            client.write(piece)
            await client.drain()
        raise ConnectionResetError("the server has gone")
