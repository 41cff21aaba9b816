"""Bodies of requests: what they hold of the memory budget, and bounded decompression.

The same functions serve HTTP's Content-Encoding and gRPC's message compression.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol, cast

from backports import zstd
from isal import isal_zlib

from ingest.memory_budget import MemoryBudget
from ingest.receivers.limits import Limits
from shared.errors import Invalid, TooLarge, Unsupported

# Input is handed over in slices, because a decoder copies the input that it did not get to.
SLICE_BYTES: Final = 64 << 10
# Output comes in pieces of at most this: what a request may hold beyond its budget, and how long
# it may keep the event loop.
PIECE_BYTES: Final = 1 << 20
_GZIP_WINDOW_BITS: Final = 31
# isal's types declare its exception as a plain object.
_GZIP_ERROR: Final = cast("type[Exception]", isal_zlib.IsalError)

IDENTITY: Final = ""
_NAMES: Final = {
    "": IDENTITY,
    "identity": IDENTITY,
    "gzip": "gzip",
    "x-gzip": "gzip",
    "zstd": "zstd",
}


def encoding_named(name: str) -> str:
    """IDENTITY, "gzip" or "zstd"; Unsupported for anything else, a list of them too."""
    known = _NAMES.get(name.strip().lower())
    if known is None:
        raise Unsupported(
            f"the content encoding {name[:40]!r} is not supported; use gzip, zstd or identity"
        )
    return known


class Hold:
    """What one request of *tenant* holds of the budget, given back at once by `release`.

    The tenant may be set until something is held.
    """

    __slots__ = ("_budget", "held_bytes", "tenant")

    def __init__(self, budget: MemoryBudget, tenant: str = "") -> None:
        self._budget = budget
        self.tenant = tenant
        self.held_bytes = 0

    def add(self, size_bytes: int) -> None:
        """Hold more; Unavailable when there is no room."""
        self._budget.reserve(size_bytes, self.tenant)
        self.held_bytes += size_bytes

    def release(self) -> None:
        """Give everything back; doing it again does nothing."""
        self._budget.release(self.held_bytes, self.tenant)
        self.held_bytes = 0


class _Member(Protocol):
    """A decoder of one gzip member or one zstd frame."""

    @property
    def ended(self) -> bool:
        """Whether the member's end, with its checksum, has been read."""

    @property
    def unused(self) -> bytes:
        """Input beyond the end of the member."""

    def pieces(self, data: memoryview) -> Iterator[bytes]:
        """Everything that comes of *data*, at most PIECE_BYTES at a time."""


class _GzipMember:
    def __init__(self) -> None:
        self._decoder = isal_zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)

    @property
    def ended(self) -> bool:
        return bool(self._decoder.eof)

    @property
    def unused(self) -> bytes:
        return bytes(self._decoder.unused_data)

    def pieces(self, data: memoryview) -> Iterator[bytes]:
        piece = self._decoder.decompress(data, PIECE_BYTES)
        yield piece
        while not self._decoder.eof and (
            self._decoder.unconsumed_tail or len(piece) == PIECE_BYTES
        ):
            piece = self._decoder.decompress(self._decoder.unconsumed_tail, PIECE_BYTES)
            yield piece


class _ZstdFrame:
    def __init__(self, window_log_max: int) -> None:
        parameters: dict[int, int] = {zstd.DecompressionParameter.window_log_max: window_log_max}
        self._decoder = zstd.ZstdDecompressor(options=parameters)

    @property
    def ended(self) -> bool:
        return self._decoder.eof

    @property
    def unused(self) -> bytes:
        return self._decoder.unused_data

    def pieces(self, data: memoryview) -> Iterator[bytes]:
        yield self._decoder.decompress(data, PIECE_BYTES)
        while not self._decoder.eof and not self._decoder.needs_input:
            yield self._decoder.decompress(b"", PIECE_BYTES)


async def inflated(body: bytes, encoding: str, hold: Hold, limits: Limits) -> bytes:
    """*body* decompressed, every byte of it held in *hold*.

    Invalid when it is corrupt, cut short or followed by garbage, TooLarge as soon as it passes
    `limits.body_bytes_max`, Unavailable when the budget is used up. Other requests get their turn
    between pieces.
    """
    pieces: list[bytes] = []
    size_bytes = 0
    for piece in _PIECES_OF[encoding](body, limits):
        if pieces:
            await asyncio.sleep(0)
        size_bytes += len(piece)
        if size_bytes > limits.body_bytes_max:
            raise TooLarge(
                f"the request is larger than {limits.body_bytes_max} bytes after decompression; "
                "send smaller batches"
            )
        hold.add(len(piece))
        pieces.append(piece)
    return b"".join(pieces)


def _plain(body: bytes, _: Limits) -> Iterator[bytes]:
    yield body


def _gunzipped(body: bytes, limits: Limits) -> Iterator[bytes]:
    try:
        yield from _pieces_of_members(body, _GzipMember, limits)
    except _GZIP_ERROR:
        raise Invalid("the body is not valid gzip: it is corrupt or followed by garbage") from None


def _unzstd(body: bytes, limits: Limits) -> Iterator[bytes]:
    frame = partial(_ZstdFrame, limits.zstd_window_log_max)
    try:
        yield from _pieces_of_members(body, frame, limits)
    except zstd.ZstdError:
        raise Invalid(
            "the body is not valid zstd: it is corrupt, followed by garbage, or needs a window "
            f"of more than {1 << limits.zstd_window_log_max} bytes"
        ) from None


def _pieces_of_members(
    body: bytes, new_member: Callable[[], _Member], limits: Limits
) -> Iterator[bytes]:
    """The output of all members of *body*, which has at least one."""
    whole = rest = memoryview(body)
    for _ in range(limits.compressed_members_max):
        member = new_member()
        while not member.ended:
            if not rest:
                raise Invalid("the compressed body is cut short")
            data, rest = rest[:SLICE_BYTES], rest[SLICE_BYTES:]
            yield from member.pieces(data)
        # What the member did not use lies just before the rest.
        rest = whole[len(whole) - len(rest) - len(member.unused) :]
        if not rest:
            return
    raise Invalid(f"the body has more than {limits.compressed_members_max} compressed members")


_PIECES_OF: Final = {IDENTITY: _plain, "gzip": _gunzipped, "zstd": _unzstd}
