"""Metrics of events, each declared once."""

from typing import Final

from prometheus_client import Counter, Histogram

RELAYED: Final = Counter("telemetryflow_events_relayed_total", "Events taken from the outbox")
DELIVERED: Final = Counter(
    "telemetryflow_event_deliveries_total", "Events that a subscriber handled", ["subscriber"]
)
FAILED: Final = Counter(
    "telemetryflow_event_failures_total", "Attempts of a subscriber that failed", ["subscriber"]
)
DEAD: Final = Counter(
    "telemetryflow_dead_events_total", "Deliveries that were given up", ["subscriber"]
)
DELIVERY_SECONDS: Final = Histogram(
    "telemetryflow_event_delivery_seconds",
    "From an event to the end of a subscriber's work",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
)
