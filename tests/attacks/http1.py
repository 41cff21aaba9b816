"""Abuse of HTTP/1.1: what each request sends, and how the receiver answers it.

References: CVE-2023-39326 and CVE-2025-22871 (chunk extensions), CVE-2026-22815 (trailers without
end), RFC 9112 11.2 (request smuggling).
"""

from collections.abc import Callable
from typing import Final, NamedTuple


class Abuse(NamedTuple):
    """*payload(size, post)* is what is sent; *post* is the head of a chunked export.

    *size* is enough to be refused with *status*.
    """

    payload: Callable[[int, bytes], bytes]
    size: int
    status: int
    limit: str


OVERHEAD: Final = "chunk_overhead_bytes_max"
HEAD: Final = "headers_bytes_max, header_line_bytes_max"

ABUSES: Final[dict[str, Abuse]] = {
    "tiny_chunks": Abuse(lambda n, post: post + b"2\r\nxy\r\n" * n, 100_000, 400, OVERHEAD),
    "chunk_extensions": Abuse(
        lambda n, post: post + (b"1;" + b"e" * 200 + b"\r\nx\r\n") * n, 3_000, 400, OVERHEAD
    ),
    "chunk_extension_without_end": Abuse(
        lambda n, post: post + b"1;" + b"e" * n, 400_000, 400, OVERHEAD
    ),
    "trailer_without_end": Abuse(
        lambda n, post: post + b"1\r\nx\r\n0\r\nX: " + b"e" * n, 400_000, 400, OVERHEAD
    ),
    "trailer_name_without_end": Abuse(
        lambda n, post: post + b"1\r\nx\r\n0\r\n" + b"X" * n, 400_000, 400, OVERHEAD
    ),
    "many_trailers": Abuse(
        lambda n, post: post + b"1\r\nx\r\n0\r\n" + b"x: y\r\n" * n, 200, 431, "headers_max"
    ),
    "header_without_end": Abuse(
        lambda n, _: b"POST /v1/traces HTTP/1.1\r\nX: " + b"v" * n, 400_000, 431, HEAD
    ),
    "header_name_without_end": Abuse(
        lambda n, _: b"POST /v1/traces HTTP/1.1\r\n" + b"X" * n, 400_000, 431, HEAD
    ),
    "many_headers": Abuse(
        lambda n, _: b"POST /v1/traces HTTP/1.1\r\n" + b"x: y\r\n" * n, 200, 431, "headers_max"
    ),
    "url_without_end": Abuse(lambda n, _: b"POST /" + b"x" * n, 400_000, 414, "url_bytes_max"),
    "refused_requests": Abuse(
        lambda n, _: b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * n, 600, 404, "failures_max"
    ),
}

# Each hides a second request from one of two parsers that read the first differently.
SMUGGLING: Final = {
    "two_lengths": b"Content-Length: 1\r\nContent-Length: 2\r\n",
    "a_list_of_lengths": b"Content-Length: 1, 2\r\n",
    "length_and_chunked": b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    "chunked_and_length": b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
    "chunked_twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "chunked_not_last": b"Transfer-Encoding: chunked, identity\r\n",
    "obscured_chunked": b"Transfer-Encoding: xchunked\r\n",
    "space_before_colon": b"Transfer-Encoding : chunked\r\n",
    "tab_in_name": b"Transfer-\tEncoding: chunked\r\n",
    "folded": b"Content-Type: application/x-protobuf\r\n Transfer-Encoding: chunked\r\n",
    "negative_length": b"Content-Length: -1\r\n",
    "signed_length": b"Content-Length: +1\r\n",
    "hexadecimal_length": b"Content-Length: 0x1\r\n",
    "length_with_space": b"Content-Length: 1 1\r\n",
    "huge_length": b"Content-Length: 18446744073709551617\r\n",
    "bare_line_feed": b"X: a\nContent-Length: 1\r\n",
    "bare_carriage_return": b"X: a\rContent-Length: 1\r\n",
    "nul_in_value": b"X: a\0b\r\nContent-Length: 1\r\n",
}
