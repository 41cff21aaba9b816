"""Requests with the head of the one before: exporters say the same again, but for the length.

A head that the parser took is kept as bytes. Another that differs from it in nothing but the digits
of Content-Length means the same with another length, so it need not be parsed.
"""

from typing import Final

from ingest.receivers.http_requests import Export

# Of a request that is worth it: the head of a larger one costs little beside its body.
BODY_BYTES_MAX: Final = 16 << 10
_DIGITS_MAX: Final = len(str(BODY_BYTES_MAX))
_LENGTH_NAME: Final = b"\r\ncontent-length:"
_END_OF_HEAD: Final = b"\r\n\r\n"


class KnownHead:
    """The head of a request that was taken, and what it asked for."""

    __slots__ = ("_after", "_before", "export")

    def __init__(self, before: bytes, after: bytes, export: Export) -> None:
        self._before = before
        self._after = after
        self.export = export

    def body_in(self, read: bytearray, start: int, end: int) -> tuple[int, int] | None:
        """From where to where the body lies of a whole request with this head at *start*.

        None when what *read* holds from *start* to *end* does not begin with such a request.
        """
        if not read.startswith(self._before, start):
            return None
        digits_start = start + len(self._before)
        digits_end = read.find(b"\r", digits_start, digits_start + _DIGITS_MAX + 1)
        digits = read[digits_start:digits_end] if digits_end > 0 else b""
        if not digits.isdigit() or not read.startswith(self._after, digits_end):
            return None
        body_start = digits_end + len(self._after)
        body_end = body_start + int(digits)
        return (body_start, body_end) if body_end <= end else None


def known_head(data: bytes, headers_count: int, export: Export) -> KnownHead | None:
    """The head that *data* begins with, of a request with so many headers that asked for *export*.

    None when its bytes do not show for certain what the parser made of them: with line ends other
    than CRLF, with a header over two lines, or with Content-Length twice.
    """
    head, end, _ = data.partition(_END_OF_HEAD)
    lines = head.count(b"\r\n")
    names = head.lower()
    if (
        not end
        or lines != headers_count
        or head.count(b"\n") != lines
        or head.count(b"\r") != lines
        or names.count(_LENGTH_NAME) != 1
    ):
        return None
    digits_start = names.find(_LENGTH_NAME) + len(_LENGTH_NAME) + 1
    before = head[:digits_start]
    digits, _, rest = (head + end)[digits_start:].partition(b"\r")
    if not before.endswith(b" ") or not digits.isdigit():
        return None
    return KnownHead(before, b"\r" + rest, export)
