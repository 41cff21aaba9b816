"""What became of rows, told to the control plane and to the ledger: topic `telemetry.ingested.v1`.

One JSON document per plan and at most 1 000 counts:

    {"v":1,"id":…,"signal":"logs","topic":"otlp.logs.v1","partition":0,"log":…,"start":10,"end":42,
     "counts":[{"table":"tf_logs","tenant":"acme","minute":29720160,"event":"stored","rows":500},…]}

`event` is stored, dead (a dead letter), repeated (dropped, a client had sent it before) or replayed
(a dead letter that was stored later); `log` tells one incarnation of the topic from another. A
document is appended before the offset is committed, so it may come twice after a crash, with the
same `id`: whoever adds up counts ignores an id that was seen.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from ingest.log import Headers, TelemetryLog
from ingest.plans import PlannedRecord
from ingest.signals import INGESTED_TOPIC

INGESTED_VERSION: Final = 1
COUNTS_PER_DOCUMENT_MAX: Final = 1_000


async def append_ingested(
    log: TelemetryLog,
    outcomes: Mapping[str, Iterable[PlannedRecord]],
    *,
    topic: str,
    partition: int,
    incarnation: str = "",
    start: int,
    end: int,
    token: str,
) -> None:
    """Tell what became of rows: records by event; *token* identifies this telling.

    The event `read` stands for all records of a plan: of their rows, those that are neither stored
    nor dead are told as repeated.
    """
    counts = counted(outcomes)
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
            "log": incarnation,
            "start": start,
            "end": end,
            "counts": counts[first : first + COUNTS_PER_DOCUMENT_MAX],
        }
        documents.append((orjson.dumps(document), ()))
    target = partition % await log.partitions(INGESTED_TOPIC)
    await log.append_many(INGESTED_TOPIC, target, documents)


def counted(outcomes: Mapping[str, Iterable[PlannedRecord]]) -> list[dict[str, Any]]:
    """Rows by event, table, tenant and minute, in order."""
    rows = {event: _rows_by_place(records) for event, records in outcomes.items()}
    read = rows.pop("read", None)
    if read is not None:
        rows["repeated"] = read
        for event in ("stored", "dead"):
            rows["repeated"] = rows["repeated"] - rows[event]
    return [
        {"table": table, "tenant": tenant, "minute": minute, "event": event, "rows": count}
        for event, places in sorted(rows.items())
        for (table, tenant, minute), count in sorted(places.items())
    ]


def _rows_by_place(records: Iterable[PlannedRecord]) -> Counter[tuple[str, str, int]]:
    rows: Counter[tuple[str, str, int]] = Counter()
    for one in records:
        info, minute = one.info, one.record.timestamp_ms // 60_000
        if info is None:
            # Nobody can say whose they are.
            rows["", "", minute] += one.rows
        else:
            for tenant, count in info.tenants:
                rows[info.table, tenant, info.minute or minute] += count
    return +rows
