"""A proxy before PostgreSQL that notes each exchange: what was asked until the server was ready."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Self

from shared.postgres.address import PostgresAddress

HEADER_BYTES: Final = 5
PIECE_BYTES: Final = 65_536


@dataclass
class _Messages:
    """Takes the messages of PostgreSQL's protocol out of a stream: a type, a length, a content."""

    # The first message of a client has no type.
    has_started: bool = True
    _rest: bytes = b""

    def of(self, piece: bytes) -> Iterator[tuple[str, bytes]]:
        """The messages that *piece* completes."""
        data = self._rest + piece
        if not self.has_started and len(data) >= 4:
            self.has_started = True
            data = b"-" + data
        while len(data) >= HEADER_BYTES:
            end = 1 + int.from_bytes(data[1:HEADER_BYTES], "big")
            if len(data) < end:
                break
            yield chr(data[0]), data[HEADER_BYTES:end]
            data = data[end:]
        self._rest = data


@dataclass
class _Conversation:
    """Of one connection: what its statements are called, and what was asked since the last end."""

    texts: dict[bytes, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def note(self, kind: str, content: bytes) -> None:
        """A message of the client; Q is a text, P prepares one under a name, B runs that name."""
        if kind == "Q":
            self.asked.append(_one_line(content.rstrip(b"\0")))
        elif kind == "P":
            name, text, _ = content.split(b"\0", 2)
            self.texts[name] = _one_line(text)
            self.asked.append(f"prepare {self.texts[name]}")
        elif kind == "B":
            name = content.split(b"\0", 2)[1]
            self.asked.append(self.texts[name])


class Exchanges:
    """Forwards to *address*; `seen` is every exchange since it was last cleared."""

    def __init__(self, address: PostgresAddress) -> None:
        self.seen: list[str] = []
        self._target = address
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> PostgresAddress:
        """The same database, through this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return replace(self._target, host="127.0.0.1", port=port, ssl="disable")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(self._target.host, self._target.port)
        talk = _Conversation()

        async def forward_requests() -> None:
            messages = _Messages(has_started=False)
            while piece := await client.read(PIECE_BYTES):
                for kind, content in messages.of(piece):
                    talk.note(kind, content)
                to_server.write(piece)
            to_server.close()

        async def forward_answers() -> None:
            messages = _Messages()
            while piece := await server.read(PIECE_BYTES):
                for kind, _content in messages.of(piece):
                    # ReadyForQuery. The first one ends the sign-in, where nothing was asked.
                    if kind == "Z" and talk.asked:
                        self.seen.append(" | ".join(talk.asked))
                        talk.asked.clear()
                to_client.write(piece)
            to_client.close()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(forward_requests(), forward_answers())


def _one_line(text: bytes) -> str:
    return " ".join(text.decode().split())
