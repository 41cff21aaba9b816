"""Which attributes there are, and their values."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import Field

from control.telemetry.queries.answers import MetaView, RangeQuery, meta_of
from control.telemetry.queries.catalogue import LOGS, TRACES, Source
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.logs import VALUES_MAX, ValueList, values_of
from control.telemetry.queries.sql import Select, all_of, during, on_days, sql, text, texts
from control.telemetry.queries.time_range import DAY_SECONDS, TimeRange
from control.telemetry.queries.traces import SpanConditions
from shared.http.models import Text, View

CATALOGUE: Final = "tf_attr_keys"
KEYS_MAX: Final = 1_000
# It takes one item in sixteen: of less than that many, the items themselves are quickly read.
SAMPLED_MIN: Final = 1_000
Place = Literal["attributes", "resource", "scope"]
_ENDINGS: Final[dict[Place, str]] = {"attributes": "", "resource": ".resource", "scope": ".scope"}
_MOST_FIRST: Final = "items DESC, signal ASC, key ASC"


class KeysQuery(RangeQuery):
    """Of spans or of log records."""

    signal: Literal["traces", "logs"] = "traces"


class SpanValuesQuery(SpanConditions, RangeQuery):
    """The values of which field."""

    field: Annotated[Text, Field(max_length=220, examples=["attributes.http.route"])]
    limit: int = Field(20, ge=1, le=VALUES_MAX)


class KeyView(View):
    """An attribute."""

    field: str = Field(description="as filters name it", examples=["resource.host.name"])
    place: Place = Field(description="whether items have it, their resource or their scope")
    key: str = Field(examples=["host.name"])


class KeyList(View):
    """Attributes of items, then of resources, then of scopes; those that were seen most first.

    Of few items all are there, else those of a sample of one item in sixteen.
    """

    data: list[KeyView]
    meta: MetaView


async def list_keys(reading: Reading, query: KeysQuery) -> KeyList:
    """From the catalogue, which is kept by day; where it saw little, from the items."""
    span, source = query.span, {"traces": TRACES, "logs": LOGS}[query.signal]
    # As the catalogue names them: a signal and a place in one.
    signals = {place: f"{query.signal}{end}" for place, end in _ENDINGS.items()}
    rows = await reading.rows(_sampled(list(signals.values()), span))
    meta: tuple[str, float] = (CATALOGUE, DAY_SECONDS)
    if not rows or rows[0]["items"] < SAMPLED_MIN:
        rows = await reading.rows(_of_items(source, signals, span))
        meta = (source.table, 0)
    return KeyList(
        data=[
            KeyView(field=f"{place}.{row['key']}", place=place, key=row["key"])
            for place, signal in signals.items()
            for row in rows
            if row["signal"] == signal
        ],
        meta=meta_of(reading, span, *meta),
    )


def _sampled(signals: Sequence[str], span: TimeRange) -> Select:
    """Keys in the catalogue."""
    return Select(
        columns={"signal": "Signal", "key": "Key", "items": "sum(Items)"},
        source=CATALOGUE,
        where=all_of(
            [sql("has(", texts(signals), ", Signal)"), on_days(span.start_ns, span.end_ns)]
        ),
        group_by=["signal", "key"],
        order_by=_MOST_FIRST,
        limit=KEYS_MAX,
    )


def _of_items(source: Source, signals: Mapping[Place, str], span: TimeRange) -> Select:
    """Keys of the items in the range."""
    pieces = [
        Select(
            columns={
                "signal": text(signal),
                "key": f"toString(arrayJoin(mapKeys({source.attributes[place].column})))",
                "seen": "count()",
            },
            source=source.table,
            where=during(source.table, source.time_column, span.start_ns, span.end_ns),
            group_by=["key"],
        )
        for place, signal in signals.items()
    ]
    return Select(
        columns={"signal": "signal", "key": "key", "items": "sum(seen)"},
        source=tuple(pieces),
        group_by=["signal", "key"],
        order_by=_MOST_FIRST,
        limit=KEYS_MAX,
    )


async def span_values(reading: Reading, query: SpanValuesQuery) -> ValueList:
    """Of spans: the most frequent values of a field, each counted."""
    return await values_of(reading, TRACES, query, query.conditions())
