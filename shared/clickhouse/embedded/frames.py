"""Content encodings, both ways, in pieces.

Bodies may be several zstd or lz4 frames, or gzip members, one behind the other: writers send a
frame per block.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import lz4.frame
from backports import zstd

from shared.errors import Invalid, Unsupported

# A small piece may hold a thousand times its size: no more than this is inflated at once.
PLAIN_BYTES_MAX: Final = 1 << 22


class Decoder(Protocol):
    """Gives the plain bytes of each piece."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain bytes of the next piece, PLAIN_BYTES_MAX at a time; Invalid when damaged."""

    def finish(self) -> None:
        """Invalid when the body ended in the middle of a frame."""


class Plain:
    """No encoding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The piece itself."""
        if data:
            yield data

    def finish(self) -> None:
        """Nothing can be missing."""


class Frames:
    """A sequence of frames; each needs a decompressor of its own."""

    def __init__(self, open_frame: Callable[[], Any], errors: tuple[type[Exception], ...]) -> None:
        self._open_frame = open_frame
        self._errors = errors
        self._frame: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain bytes of the next piece; what is not taken is lost."""
        while data or (self._frame is not None and not self._frame.needs_input):
            if self._frame is None:
                self._frame = self._open_frame()
            try:
                plain = self._frame.decompress(data, PLAIN_BYTES_MAX)
            except self._errors as error:
                raise Invalid(f"the compressed body is damaged: {error}") from error
            data = b""
            if self._frame.eof:
                data = self._frame.unused_data or b""
                self._frame = None
            if plain:
                yield plain

    def finish(self) -> None:
        """Invalid when the last frame did not end."""
        if self._frame is not None:
            raise Invalid("the compressed body ends in the middle of a frame")


class _Zlib:
    """zlib's decompressor of one gzip member or zlib stream, in the manner of the others."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    def decompress(self, data: bytes, bytes_max: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, bytes_max)


def decoder(encoding: str) -> Decoder:
    """The decoder of a Content-Encoding; Unsupported when there is none."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return Plain()
    if name == "zstd":
        return Frames(zstd.ZstdDecompressor, (zstd.ZstdError,))
    if name == "lz4":
        return Frames(lz4.frame.LZ4FrameDecompressor, (RuntimeError, ValueError))
    if name in ("gzip", "x-gzip", "deflate"):
        return Frames(_Zlib, (zlib.error,))
    raise Unsupported(f"Content-Encoding {encoding}: use zstd, lz4, gzip or deflate")


class Encoder(Protocol):
    """Compresses an answer piece by piece."""

    name: str

    def feed(self, data: bytes) -> bytes:
        """The next compressed bytes, flushed so that the client sees them."""

    def finish(self) -> bytes:
        """The end of the stream."""


class _Zstd:
    name = "zstd"

    def __init__(self) -> None:
        self._stream = zstd.ZstdCompressor(level=1)

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Lz4:
    name = "lz4"

    def __init__(self) -> None:
        self._stream = lz4.frame.LZ4FrameCompressor(auto_flush=True)
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        begin = b"" if self._begun else bytes(self._stream.begin())
        self._begun = True
        return begin + bytes(self._stream.compress(data))

    def finish(self) -> bytes:
        return (b"" if self._begun else self.feed(b"")) + bytes(self._stream.flush())


class _Gzip:
    name = "gzip"

    def __init__(self) -> None:
        self._stream = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._stream.flush()


def encoder(accepted: str) -> Encoder | None:
    """The best of the encodings in an Accept-Encoding header, None for none."""
    names = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    for kind in (_Zstd, _Lz4, _Gzip):
        if kind.name in names:
            return kind()
    return None
