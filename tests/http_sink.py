"""An HTTP server that takes whatever is posted to it, and keeps it."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Post:
    """One request; *body* without its compression."""

    path: str
    headers: Message
    body: bytes


class HttpSink(ThreadingHTTPServer):
    """Answers every POST with 200 and *answer*, which is JSON or nothing."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.posts: list[Post] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def bodies(self, path: str) -> list[bytes]:
        """What was posted to *path*, in order."""
        return [post.body for post in self.posts if post.path == path]


class _Handler(BaseHTTPRequestHandler):
    server: HttpSink
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        self.server.posts.append(Post(self.path, self.headers, body))
        answer = self.server.answer
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def http_sink(answer: bytes = b"") -> Iterator[HttpSink]:
    """One that serves until the block ends."""
    server = HttpSink(answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
