"""Which attributes there are, and their values."""

from typing import Annotated, Final, Literal

from pydantic import Field

from control.telemetry.queries.answers import MetaView, RangeQuery, meta_of
from control.telemetry.queries.catalogue import TRACES
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.logs import VALUES_MAX, ValueList, values_of
from control.telemetry.queries.sql import Select, Value, all_of, sql, text
from control.telemetry.queries.time_range import DAY_NS
from control.telemetry.queries.traces import SpanConditions
from shared.http.models import Text, View

KEYS_MAX: Final = 1_000


class KeysQuery(RangeQuery):
    """Of spans or of log records."""

    signal: Literal["traces", "logs"] = "traces"


class SpanValuesQuery(SpanConditions, RangeQuery):
    """The values of which field."""

    field: Annotated[Text, Field(max_length=220, examples=["attributes.http.route"])]
    limit: int = Field(20, ge=1, le=VALUES_MAX)


class KeyView(View):
    """An attribute, as filters name it."""

    field: str = Field(examples=["attributes.http.route"])


class KeyList(View):
    """The attributes that were seen most, from a sample of one item in sixteen."""

    data: list[KeyView]
    meta: MetaView


async def list_keys(reading: Reading, query: KeysQuery) -> KeyList:
    """From the catalogue, which is kept by day."""
    span = query.span
    rows = await reading.rows(
        Select(
            columns={"key": "Key", "items": "sum(Items)"},
            source="tf_attr_keys",
            where=all_of(
                [
                    sql("Signal = ", text(query.signal)),
                    sql("Day >= toDate(", Value(span.start_ns // DAY_NS * 86_400, "Int64"), ")"),
                    sql("Day <= toDate(", Value(span.end_ns // DAY_NS * 86_400, "Int64"), ")"),
                ]
            ),
            group_by=["key"],
            order_by="items DESC, key ASC",
            limit=KEYS_MAX,
        )
    )
    return KeyList(
        data=[KeyView(field=f"attributes.{row['key']}") for row in rows],
        meta=meta_of(reading, span, "tf_attr_keys", 86_400),
    )


async def span_values(reading: Reading, query: SpanValuesQuery) -> ValueList:
    """Of spans: the most frequent values of a field, each counted."""
    return await values_of(reading, TRACES, query, query.conditions())
