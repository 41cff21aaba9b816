"""What requests in flight may hold of the memory of this gateway process."""

from typing import Final

from ingest import metrics
from shared.errors import Unavailable

RETRY_AFTER_SECONDS: Final = 1.0
# A tenant may hold so many times what is left free. One alone gets four fifths of the budget, two
# that want all get four ninths each: whoever comes next finds room, however greedy the others are.
SHARE_OF_FREE: Final = 4


class MemoryBudget:
    """Bytes that requests in flight may hold in this process, shared by tenants.

    Receivers reserve before they read and release when they have answered, so that overload is
    refused with a retryable answer while there is still memory to refuse with. What a tenant may
    hold shrinks with what is free (dynamic thresholds, Choudhury and Hahne 1998), so no tenant
    keeps others out.
    """

    def __init__(self, *, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0
        # Only of those that hold something, so as many as there are requests in flight.
        self._held_of: dict[str, int] = {}
        metrics.MEMORY_HELD_BYTES.set_function(lambda: float(self.bytes_held))

    def reserve(self, size_bytes: int, tenant: str = "") -> None:
        """Hold *size_bytes* for *tenant*; Unavailable when that would pass its share."""
        free = self.bytes_max - self.bytes_held - size_bytes
        held = self._held_of.get(tenant, 0) + size_bytes
        if held > SHARE_OF_FREE * free:
            reason = "memory" if free < 0 else "memory_share"
            metrics.ADMISSION_REFUSALS.labels(reason).inc()
            raise Unavailable(
                "the gateway holds as many requests as its memory allows; retry later",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self.bytes_held += size_bytes
        self._held_of[tenant] = held

    def release(self, size_bytes: int, tenant: str = "") -> None:
        """Give back what was reserved."""
        self.bytes_held -= size_bytes
        left = self._held_of.get(tenant, 0) - size_bytes
        if left:
            self._held_of[tenant] = left
        else:
            self._held_of.pop(tenant, None)
