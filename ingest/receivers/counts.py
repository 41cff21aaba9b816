"""What one receiver counts: plain numbers on the hot path, given to the metrics now and then."""

from collections import Counter

from ingest import metrics


class Counts:
    """Requests by signal and outcome, and bytes of bodies; `flush` moves them to the metrics."""

    def __init__(self, transport: str) -> None:
        self._transport = transport
        # A labelled metric costs more than a whole small request may.
        self.requests: Counter[tuple[str, str]] = Counter()
        self.wire_bytes = 0

    def flush(self) -> None:
        """Add what was counted since the last flush."""
        requests, self.requests = self.requests, Counter()
        wire_bytes, self.wire_bytes = self.wire_bytes, 0
        for (signal, outcome), count in requests.items():
            metrics.REQUESTS.labels(self._transport, signal, outcome).inc(count)
        if wire_bytes:
            metrics.WIRE_BYTES.labels(self._transport).inc(wire_bytes)

    def refused_connection(self, reason: str) -> None:
        """Count a connection closed by a limit or a protocol error."""
        metrics.CONNECTIONS_REFUSED.labels(self._transport, reason).inc()
