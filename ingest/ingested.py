"""What was stored, told to the control plane: topic `telemetry.ingested.v1`.

One JSON document per plan and at most 1 000 counts:

    {"v":1,"id":…,"signal":"logs","topic":"otlp.logs.v1","partition":0,"start":10,"end":42,
     "counts":[{"table":"tf_logs","tenant":"acme","rows":500},…]}

It is appended before the offset is committed, so it may come twice after a crash, with the same
`id`: whoever adds up counts ignores an id that was seen.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import orjson

from ingest.log import Headers, TelemetryLog
from ingest.plans import PlannedRecord
from ingest.signals import INGESTED_TOPIC

INGESTED_VERSION: Final = 1
COUNTS_PER_DOCUMENT_MAX: Final = 1_000


async def append_ingested(
    log: TelemetryLog,
    records: Iterable[PlannedRecord],
    *,
    topic: str,
    partition: int,
    start: int,
    end: int,
    token: str,
) -> None:
    """Tell what *records*, all stored, hold of each tenant; *token* identifies this telling."""
    counts = counted(records)
    if not counts:
        return
    documents: list[tuple[bytes, Headers]] = []
    for first in range(0, len(counts), COUNTS_PER_DOCUMENT_MAX):
        document = {
            "v": INGESTED_VERSION,
            "id": f"{token}-{first // COUNTS_PER_DOCUMENT_MAX}",
            "signal": topic.split(".")[1],
            "topic": topic,
            "partition": partition,
            "start": start,
            "end": end,
            "counts": counts[first : first + COUNTS_PER_DOCUMENT_MAX],
        }
        documents.append((orjson.dumps(document), ()))
    target = partition % await log.partitions(INGESTED_TOPIC)
    await log.append_many(INGESTED_TOPIC, target, documents)


def counted(records: Iterable[PlannedRecord]) -> list[dict[str, Any]]:
    """Rows by table and tenant, in order."""
    rows: Counter[tuple[str, str]] = Counter()
    for one in records:
        if one.info is not None:
            for tenant, tenant_rows in one.info.tenants:
                rows[one.info.table, tenant] += tenant_rows
    return [
        {"table": table, "tenant": tenant, "rows": count}
        for (table, tenant), count in sorted(rows.items())
    ]
