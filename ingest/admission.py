"""What the gateway has room for: bytes of requests in flight."""

from typing import Final

from ingest import metrics
from shared.errors import Unavailable

RETRY_AFTER_SECONDS: Final = 1.0


class MemoryBudget:
    """Bytes that requests in flight may hold in this process.

    Receivers reserve before they read and release when they have answered, so that overload is
    refused with a retryable answer while there is still memory to refuse with.
    """

    def __init__(self, *, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0
        metrics.MEMORY_HELD_BYTES.set_function(lambda: float(self.bytes_held))

    def reserve(self, size_bytes: int) -> None:
        """Hold *size_bytes*; Unavailable when that would pass the limit."""
        if self.bytes_held + size_bytes > self.bytes_max:
            raise Unavailable(
                "the gateway holds as many requests as its memory allows; retry later",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self.bytes_held += size_bytes

    def release(self, size_bytes: int) -> None:
        """Give back what was reserved."""
        self.bytes_held -= size_bytes
