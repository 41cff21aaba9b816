"""The three signals of OTLP and the topics of the log that carry them."""

from enum import StrEnum
from typing import Final


class Signal(StrEnum):
    """An OTLP signal; the value is its name in paths, settings, metrics and permissions."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


TOPIC_OF_SIGNAL: Final = {signal: f"otlp.{signal.value}.v1" for signal in Signal}
# As people call them.
ITEMS_OF_SIGNAL: Final = {
    Signal.TRACES: "spans",
    Signal.LOGS: "log records",
    Signal.METRICS: "data points",
}
DEAD_LETTER_TOPIC: Final = "otlp.deadletter.v1"
INGESTED_TOPIC: Final = "telemetry.ingested.v1"
LEDGER_TOPIC: Final = "telemetry.ledger.v1"
