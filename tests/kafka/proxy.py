"""A TCP proxy in front of a broker or ClickHouse that loses answers, cuts requests, or hangs."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Final, Self

from tests.streams import cut

PIECE_BYTES: Final = 65_536
HELD_SECONDS: Final = 0.02


class LossyProxy:
    """Forwards 127.0.0.1:`port` to *target_port*.

    While `losing` is set, requests arrive and each answer cuts its connection instead of coming
    back. While `refusal` is set, INSERTs get it as their answer and do not arrive. `cut_after` is
    for the next INSERT: so many bytes of it arrive. Answers come `delay_seconds` late. Between
    `hold` and `release` nothing is carried at all. Any thread may tell it so.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.losing = False
        self.lost = 0
        self.refusal: bytes | None = None
        self.cut_after: int | None = None
        self.delay_seconds = 0.0
        self._open = threading.Event()
        self._open.set()
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        # One that was accepted in this very moment has its task a few turns of the loop later.
        await asyncio.sleep(HELD_SECONDS)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        """Carry nothing until `release`; connections stay open."""
        self._open.clear()

    def release(self) -> None:
        """Carry what was held, and what comes."""
        self._open.set()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        writers = [to_client]
        try:
            broker, to_broker = await asyncio.open_connection("127.0.0.1", self._target_port)
            writers.append(to_broker)
            ways = [
                asyncio.create_task(self._requests(client, to_broker, to_client)),
                asyncio.create_task(self._answers(broker, to_client)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the broker is away: the client's connection ends
        finally:
            for writer in writers:
                await cut(writer)

    async def _requests(
        self,
        client: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        to_client: asyncio.StreamWriter,
    ) -> None:
        left: int | None = None
        while piece := await client.read(PIECE_BYTES):
            await self._released()
            if piece.startswith(b"POST") and b"insert_deduplication_token" in piece:
                if self.refusal is not None:
                    to_client.write(self.refusal)
                    await to_client.drain()
                    return
                left, self.cut_after = self.cut_after, None
            if left is not None:
                piece, left = piece[:left], left - len(piece)
            to_server.write(piece)
            await to_server.drain()
            if left is not None and left <= 0:
                return

    async def _answers(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while piece := await server.read(PIECE_BYTES):
            await self._released()
            if self.losing:
                self.lost += 1
                return
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            to_client.write(piece)
            await to_client.drain()

    async def _released(self) -> None:
        while not self._open.is_set():
            await asyncio.sleep(HELD_SECONDS)


@contextlib.contextmanager
def running(*proxies: LossyProxy) -> Iterator[None]:
    """*proxies* at work in a thread of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work: Coroutine[None, None, object]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)

    try:
        for proxy in proxies:
            call(proxy.__aenter__())
        yield
        for proxy in proxies:
            call(proxy.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
