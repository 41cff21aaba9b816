"""What became of rows, told to the control plane and to the ledger: topic `telemetry.ingested.v1`.

One JSON document per plan and at most 1 000 counts:

    {"v":1,"id":…,"signal":"logs","topic":"otlp.logs.v1","partition":0,"log":…,"start":10,"end":42,
     "counts":[{"table":"tf_logs","tenant":"acme","minute":29720160,"event":"stored","rows":500,
                "key":"tfk_…","bytes":81920},…]}

`event` is stored, dead (a dead letter), repeated (dropped, a client had sent it before) or replayed
(a dead letter that was stored later); `log` tells one incarnation of the topic from another. `key`
is missing when none is known, `bytes` when it is 0: the bodies of the requests, as decompressed
protobuf; a request that touches several tables or blocks is told with the first of them alone.

A document is appended before the offset is committed, so it may come twice after a crash, with the
same `id`: whoever adds up counts ignores an id that was seen.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from ingest.log import Headers, TelemetryLog
from ingest.plans import PlannedRecord
from ingest.signals import INGESTED_TOPIC

INGESTED_VERSION: Final = 1
COUNTS_PER_DOCUMENT_MAX: Final = 1_000
# Of one read of a follower, which waits so long at most.
_READ_RECORDS_MAX: Final = 100
_READ_BYTES_MAX: Final = 4 * 1024 * 1024
_WAIT_SECONDS: Final = 1.0

# Table, tenant, key, minute.
_Place = tuple[str, str, str, int]


class _Sums(NamedTuple):
    """What is told of each place."""

    rows: Counter[_Place]
    bytes: Counter[_Place]


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


async def follow_ingested(
    log: TelemetryLog, tell: Callable[[Mapping[str, Any] | None], None]
) -> None:
    """Tell each document that is appended from now on, until cancelled; None once that begins.

    Raises Unavailable when the log cannot be read. What is no document is left out.
    """
    partitions = range(await log.partitions(INGESTED_TOPIC))
    at = {one: (await log.bounds(INGESTED_TOPIC, one))[1] for one in partitions}
    tell(None)
    while True:
        for partition in partitions:
            records = await log.read(
                *(INGESTED_TOPIC, partition, at[partition]),
                records_max=_READ_RECORDS_MAX,
                bytes_max=_READ_BYTES_MAX,
                wait_seconds=_WAIT_SECONDS / len(partitions),
            )
            for record in records:
                at[partition] = record.offset + 1
                with contextlib.suppress(orjson.JSONDecodeError):
                    tell(orjson.loads(record.value))


def counted(outcomes: Mapping[str, Iterable[PlannedRecord]]) -> list[dict[str, Any]]:
    """Rows and bytes by event, table, tenant, key and minute, in order."""
    found = {event: _by_place(records) for event, records in outcomes.items()}
    read = found.pop("read", None)
    if read is not None:
        rows, size = read
        for event in ("stored", "dead"):
            rows, size = rows - found[event].rows, size - found[event].bytes
        found["repeated"] = _Sums(rows, size)
    return [
        {"table": table, "tenant": tenant, "minute": minute, "event": event, "rows": count}
        | ({"key": key} if key else {})
        | ({"bytes": told} if (told := sums.bytes[table, tenant, key, minute]) else {})
        for event, sums in sorted(found.items())
        for (table, tenant, key, minute), count in sorted(sums.rows.items())
    ]


def _by_place(records: Iterable[PlannedRecord]) -> _Sums:
    rows: Counter[_Place] = Counter()
    size: Counter[_Place] = Counter()
    for one in records:
        info, minute = one.info, one.record.timestamp_ms // 60_000
        if info is None:
            # Nobody can say whose they are.
            rows["", "", "", minute] += one.rows
            continue
        minute = info.minute or minute
        for tenant, count, key in info.tenants:
            rows[info.table, tenant, key, minute] += count
        for request in info.requests:
            if request.body_bytes:
                size[info.table, request.tenant, request.key, minute] += request.body_bytes
    return _Sums(+rows, size)
