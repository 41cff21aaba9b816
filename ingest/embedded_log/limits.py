"""The limits of the embedded log, and what it keeps for how long."""

from collections.abc import Collection
from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one opened log may take and hold. Sizes are bytes.

    `unread_expire` names the topics that may have no reader: their records are deleted by age even
    if no group ever committed. All other topics keep what no group has read.
    `consumed_seconds_min`: consumed records stay at least so long, even beyond the size limit,
    because a writer that starts reads them again to know the requests of the last minutes.
    `bytes_free_min`: appends are refused below it, so that there is room for commits.
    """

    retention_hours: float = 72.0
    retention_bytes: int = 20 * 1024 * MIB
    unread_expire: Collection[str] = ("otlp.deadletter.v1", "telemetry.ingested.v1")
    consumed_seconds_min: float = 600.0
    bytes_free_min: int = 256 * MIB
    value_bytes_max: int = 64 * MIB
    pending_bytes_max: int = 256 * MIB
    batch_bytes_max: int = 32 * MIB
    batch_operations_max: int = 4_096
    lock_wait_seconds: float = 3.0
    maintenance_seconds: float = 5.0
    poll_seconds: float = 0.025
