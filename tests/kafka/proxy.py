"""A TCP proxy in front of a broker that loses answers, or hangs."""

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Final, Self

PIECE_BYTES: Final = 65_536
HELD_SECONDS: Final = 0.02


class LossyProxy:
    """Forwards 127.0.0.1:`port` to *target_port*.

    While `losing` is set, requests arrive and each answer cuts its connection instead of coming
    back. Between `hold` and `release` nothing is carried at all. Any thread may tell it so.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.losing = False
        self.lost = 0
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
                asyncio.create_task(self._carry(client, to_broker, answers=False)),
                asyncio.create_task(self._carry(broker, to_client, answers=True)),
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
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while piece := await source.read(PIECE_BYTES):
            while not self._open.is_set():
                await asyncio.sleep(HELD_SECONDS)
            if answers and self.losing:
                self.lost += 1
                return
            sink.write(piece)
            await sink.drain()
