"""The request line and headers of an HTTP/1.1 request, collected within limits."""

import asyncio

from ingest.receivers.limits import Limits
from ingest.receivers.statuses import HeadersTooLarge, UrlTooLong


class HeadReader:
    """The callbacks of an httptools parser up to the end of the headers.

    `_url` and `_headers` (names in lower case, repeated ones joined by a comma) are complete when
    the parser says so; what passes a limit goes to `_refuse_unread`.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._headers_count = 0
        self._headers_bytes = 0
        self._in_head = False
        # Bytes read since the head began, not counting the read that it began in.
        self._head_bytes: int | None = None
        # No more requests are taken; what still comes is thrown away.
        self._closing = False
        # When the request began, or the connection became idle.
        self._since = self._loop.time()

    def _refuse_unread(self, error: BaseException) -> None:
        raise NotImplementedError

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._headers_count = self._headers_bytes = 0
        self._head_bytes = None
        self._in_head = True
        self._since = self._loop.time()

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._limits.url_bytes_max and not self._closing:
            self._refuse_unread(UrlTooLong("the URL is too long"))

    def on_header(self, name: bytes, value: bytes | None) -> None:
        if self._closing:
            return
        name, value = name.lower(), value or b""
        size_bytes = len(name) + len(value)
        self._headers_count += 1
        self._headers_bytes += size_bytes
        limits = self._limits
        if (
            self._headers_count > limits.headers_max
            or size_bytes > limits.header_line_bytes_max
            or self._headers_bytes > limits.headers_bytes_max
        ):
            self._refuse_unread(HeadersTooLarge("the headers are too large, or too many"))
        elif self._in_head:
            known = self._headers.get(name)
            self._headers[name] = value if known is None else known + b", " + value

    def _limit_head(self, size_bytes: int) -> None:
        """So that headers that never end, and so are never shown by the parser, end here."""
        if self._head_bytes is None:
            self._head_bytes = 0
            return
        self._head_bytes += size_bytes
        if self._head_bytes > self._limits.headers_bytes_max:
            self._refuse_unread(HeadersTooLarge("the headers of the request are too large"))
