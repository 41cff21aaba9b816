"""What the processes say of themselves once all is quiet, and what the system says of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.e2e.processes import Product

# Several times of what they have without faults: what leaks with every fault passes them.
FDS_MAX: Final = 100
RSS_MB_MAX: Final = 400
# Each of these says that data was lost, set aside, or waits for a person.
MUST_BE_ZERO: Final = (
    "telemetryflow_writer_conservation_difference",
    "telemetryflow_writer_dead_letters_total",
    "telemetryflow_writer_log_anomalies_total",
    "telemetryflow_writer_partitions_paused",
    "telemetryflow_writer_records_lost_total",
    "telemetryflow_writer_rows_dead_lettered",
)


def health(product: Product, names: Sequence[str]) -> tuple[int, int, list[str]]:
    """The most descriptors and megabytes of a gateway or writer of *names*, and complaints."""
    complaints = []
    fds, rss_mb = 0, 0
    for name in names:
        if name == "clickhouse":
            continue
        if product.has_ended(name):
            complaints.append(f"{name} has ended by itself: {product.output_of(name)[-500:]}")
            continue
        process = Path("/proc") / str(product.pid(name))
        fds = max(fds, len(list((process / "fd").iterdir())))
        rss_mb = max(rss_mb, _rss_mb(process))
        if name.startswith("writer"):
            found = product.metrics(name)
            complaints += [
                f"{name}: {metric} is {values}"
                for metric, values in found.items()
                if metric in MUST_BE_ZERO and any(values)
            ]
    if fds > FDS_MAX:
        complaints.append(f"{fds} descriptors")
    if rss_mb > RSS_MB_MAX:
        complaints.append(f"{rss_mb} MB")
    return fds, rss_mb, complaints


def _rss_mb(process: Path) -> int:
    (line,) = (
        line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) // 1_024
