"""Log records: search, volume by severity, the lines around a line, values of a field."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from control.telemetry.queries.answers import MetaView, RangeQuery, SteppedQuery, meta_of
from control.telemetry.queries.catalogue import LOGS, Source, attribute_of, field_of
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.filters import condition_of, filter_of, search_of
from control.telemetry.queries.paging import (
    PAGE_ITEMS_MAX,
    Filtered,
    Items,
    PagedQuery,
    page_of,
)
from control.telemetry.queries.services import bucket_of
from control.telemetry.queries.sql import (
    Fragment,
    Part,
    Select,
    Value,
    all_of,
    between,
    during,
    moment,
    sql,
    text,
)
from control.telemetry.queries.time_range import (
    MINUTE_SECONDS,
    SECOND_NS,
    Time,
    TimeRange,
    iso,
    time_ns,
)
from shared.errors import Invalid, NotFound
from shared.http.models import Query, Text, View

EXPORTED_MAX: Final = 100_000
AROUND_MAX: Final = 200
AROUND_SECONDS_MAX: Final = 86_400
VALUES_MAX: Final = 100
_TRACE: Final = field_of(LOGS, "traceId").expression
_SPAN: Final = field_of(LOGS, "spanId").expression
# Tells one record from another; what is equal in all of it looks the same.
_HASH: Final = (
    "cityHash64(ObservedTimestamp, TraceId, SpanId, SeverityNumber, SeverityText, ServiceName, "
    "Body, LogAttributes, ResourceAttributes)"
)
LINE: Final[Mapping[str, Part]] = {
    "time_ns": "toUnixTimestamp64Nano(Timestamp)",
    "identity": _HASH,
    "observed_ns": "toUnixTimestamp64Nano(ObservedTimestamp)",
    "service": "ServiceName",
    "severity_number": "SeverityNumber",
    "severity_text": "SeverityText",
    "body": "Body",
    "trace": _TRACE,
    "span": _SPAN,
    "event_name": "EventName",
    "attributes": "LogAttributes",
    "resource": "ResourceAttributes",
    "scope_name": "ScopeName",
}
# Severity numbers in fours, as the specification names them.
SEVERITIES: Final = ("unspecified", "trace", "debug", "info", "warn", "error", "fatal")


class LogConditions(Filtered):
    """Which log records."""

    service: Text | None = Field(None, max_length=100)
    search: Text | None = Field(
        None,
        max_length=200,
        description='whole words that the body has, and "phrases" in quotes; case counts',
        examples=['timeout "upstream connect"'],
    )
    min_severity: int | None = Field(None, ge=0, le=24, description="severity number; 17: errors")
    trace_id: str | None = Field(None, pattern=r"^[0-9a-fA-F]{32}$")

    def conditions(self) -> list[Fragment]:
        """As SQL."""
        found = []
        if self.service is not None:
            found.append(sql("ServiceName = ", text(self.service)))
        if self.min_severity is not None:
            found.append(sql("SeverityNumber >= ", Value(self.min_severity, "UInt8")))
        if self.trace_id is not None:
            found.append(sql(f"{_TRACE} = ", text(self.trace_id.lower())))
        if self.search is not None:
            found.append(search_of("Body", self.search))
        if self.filter is not None:
            found.append(condition_of(LOGS, filter_of(self.filter)))
        return found

    @property
    def counts_only(self) -> bool:
        """Whether counts by service, severity and minute can answer it."""
        return self.search is None and self.filter is None and self.trace_id is None


class LogFilter(LogConditions, PagedQuery):
    """Which log records, and where the page before ended."""


class VolumeQuery(LogConditions, SteppedQuery):
    """Which log records, in which steps."""


class ContextQuery(Query):
    """A line that a search gave, and how many around it."""

    time: Time
    id: str = Field(pattern=r"^\d{1,20}$", description="id of the line")
    service: Text = Field(max_length=100, description="lines of this service are shown")
    before: int = Field(20, ge=0, le=AROUND_MAX)
    after: int = Field(20, ge=0, le=AROUND_MAX)


class ValuesQuery(LogConditions, RangeQuery):
    """The values of which field."""

    field: Text = Field(max_length=220, examples=["attributes.http.method"])
    limit: int = Field(20, ge=1, le=VALUES_MAX)


class LogView(View):
    """A log record."""

    id: str = Field(description="with its time and service, finds the lines around it")
    time: str
    observed_time: str
    service: str
    severity_number: int
    severity_text: str
    body: str
    trace_id: str
    span_id: str
    event_name: str
    scope_name: str
    attributes: dict[str, str]
    resource_attributes: dict[str, str]


class LogList(View):
    """Log records, the newest first."""

    data: list[LogView]
    next_cursor: str | None
    meta: MetaView


class VolumeStep(View):
    """Records of one step."""

    time: int = Field(description="beginning of the step, milliseconds since 1970")
    total: int
    by_severity: dict[str, int]


class Volume(View):
    """How many records over time; steps without any are left out."""

    data: list[VolumeStep]
    step_seconds: int
    meta: MetaView


class LogContext(View):
    """A line among its neighbours, the oldest first."""

    before: list[LogView]
    line: LogView
    after: list[LogView]


class ValueCount(View):
    """A value and how many items have it."""

    value: str
    count: int


class ValueList(View):
    """The most frequent values."""

    data: list[ValueCount]
    meta: MetaView


def log_view(row: Mapping[str, Any]) -> LogView:
    """A row of `LINE`."""
    return LogView(
        id=str(row["identity"]),
        time=iso(row["time_ns"]),
        observed_time=iso(row["observed_ns"]),
        service=row["service"],
        severity_number=row["severity_number"],
        severity_text=row["severity_text"],
        body=row["body"],
        trace_id=row["trace"],
        span_id=row["span"],
        event_name=row["event_name"],
        scope_name=row["scope_name"],
        attributes=row["attributes"],
        resource_attributes=row["resource"],
    )


LOG_ITEMS: Final = Items("tf_logs", "Timestamp", _HASH, LINE)


async def search_logs(reading: Reading, query: LogFilter) -> LogList:
    """A page of records."""
    found = await page_of(reading, LOG_ITEMS, query, query.conditions())
    return LogList(
        data=[log_view(row) for row in found.rows],
        next_cursor=found.next_cursor,
        meta=meta_of(reading, found.span, "tf_logs", 0),
    )


async def all_logs(reading: Reading, query: LogFilter, *, limit: int) -> AsyncIterator[LogView]:
    """Page after page, up to *limit* records; one page is in memory at a time."""
    asked = query.model_copy(update={"limit": PAGE_ITEMS_MAX})
    given = 0
    while True:
        page = await search_logs(reading, asked)
        for view in page.data[: limit - given]:
            yield view
        given += len(page.data)
        if page.next_cursor is None or given >= limit:
            return
        asked = asked.model_copy(update={"cursor": page.next_cursor})


async def log_volume(reading: Reading, query: VolumeQuery) -> Volume:
    """From counts per minute where they can tell, else from the records."""
    asked = query.span
    step = query.step_seconds()
    rolled = query.counts_only and step % MINUTE_SECONDS == 0
    span = asked.widened(MINUTE_SECONDS) if rolled and query.start_time is None else asked
    rolled = rolled and span.is_aligned(MINUTE_SECONDS)
    column = "Minute" if rolled else "Timestamp"
    within = between(column, span.start_ns, span.end_ns)
    if rolled:
        start, end = span.start_ns // SECOND_NS, span.end_ns // SECOND_NS
        within = sql(f"Minute >= toDateTime({start}) AND Minute < toDateTime({end})")
    rows = await reading.rows(
        Select(
            columns={
                "bucket": bucket_of(query.grid(span, step), column, is_coarse=rolled),
                # 0, then 1 to 6 for numbers 1 to 24.
                "severity": "intDiv(least(SeverityNumber, 24) + 3, 4)",
                "logs": "sum(Logs)" if rolled else "count()",
            },
            source="tf_log_volume_1m" if rolled else "tf_logs",
            where=all_of([within, *query.conditions()]),
            group_by=["bucket", "severity"],
            order_by="bucket ASC",
        )
    )
    counts: dict[int, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row["bucket"], {})[SEVERITIES[row["severity"]]] = int(row["logs"])
    data = [
        VolumeStep(time=start // 1_000_000, total=sum(found.values()), by_severity=found)
        for start, found in counts.items()
    ]
    source = ("tf_log_volume_1m", MINUTE_SECONDS) if rolled else ("tf_logs", 0)
    return Volume(data=data, step_seconds=step, meta=meta_of(reading, span, *source))


async def log_context(reading: Reading, query: ContextQuery) -> LogContext:
    """The lines of the service before and after; NotFound when the line is not there."""
    at = time_ns(query.time)
    service = sql("ServiceName = ", text(query.service))
    identity = Value(int(query.id), "UInt64")
    if identity.content >= 2**64:
        raise Invalid("no line has this id", field="id")
    around = AROUND_SECONDS_MAX * SECOND_NS
    before = await _lines(
        reading,
        [service, between("Timestamp", max(at - around, 0), at + 1),
         sql("Timestamp < ", moment(at), f" OR {_HASH} < ", identity)],
        "Timestamp DESC, identity DESC",
        query.before,
    )  # fmt: skip
    after = await _lines(
        reading,
        [service, between("Timestamp", at, at + around),
         sql("Timestamp > ", moment(at), f" OR {_HASH} >= ", identity)],
        "Timestamp ASC, identity ASC",
        query.after + 1,
    )  # fmt: skip
    if not after or after[0].id != str(int(query.id)):
        raise NotFound("no such line: give time, id and service of one that a search gave")
    return LogContext(before=before[::-1], line=after[0], after=after[1:])


async def _lines(
    reading: Reading, conditions: list[Fragment], order_by: str, limit: int
) -> list[LogView]:
    rows = await reading.rows(
        Select(
            columns=LINE,
            source="tf_logs",
            where=all_of(conditions),
            order_by=order_by,
            limit=limit,
        )
    )
    return [log_view(row) for row in rows]


async def log_values(reading: Reading, query: ValuesQuery) -> ValueList:
    """Of log records: the most frequent values of a field, each counted."""
    return await values_of(reading, LOGS, query, query.conditions())


async def values_of(
    reading: Reading, source: Source, query: Any, conditions: Sequence[Fragment]
) -> ValueList:
    """The most frequent values of a field of the items in the range."""
    span: TimeRange = query.span
    within = during(source.table, source.time_column, span.start_ns, span.end_ns)
    data = await counted_values(reading, source, query, [within, *conditions])
    return ValueList(data=data, meta=meta_of(reading, span, source.table, 0))


async def counted_values(
    reading: Reading,
    source: Source,
    query: Any,
    conditions: Sequence[Fragment],
    counted: str = "count()",
) -> list[ValueCount]:
    """The values of `query.field` with the highest counts."""
    name: str = query.field
    found = attribute_of(source, name)
    if found is not None:
        column, key = found[0].column, text(found[1])
        value = sql(f"{column}[", key, "]")
        conditions = [*conditions, sql(f"mapContains({column}, ", key, ")")]
    else:
        value = sql("toString(", field_of(source, name).expression, ")")
    rows = await reading.rows(
        Select(
            columns={"value": value, "items": counted},
            source=source.table,
            where=all_of(conditions),
            group_by=["value"],
            order_by="items DESC, value ASC",
            limit=query.limit,
        )
    )
    return [ValueCount(value=row["value"], count=row["items"]) for row in rows]
