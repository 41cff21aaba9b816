"""Patterns of log records: bodies that differ only in numbers, ids, paths and the like are one.

The engine puts placeholders in the place of what varies, in the order of `MASKS`, and counts what
is left. More than `SAMPLED_MAX` records are sampled, by a hash of each, so that the same question
has the same answer.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from control.telemetry.queries.answers import MetaView, RangeQuery, meta_of
from control.telemetry.queries.engine import Reading
from control.telemetry.queries.logs import LINE, SEVERITIES, LogConditions, LogView, log_view
from control.telemetry.queries.sql import Fragment, Part, Select, Value, all_of, between, sql, text
from control.telemetry.queries.time_range import iso
from shared.http.models import View

SAMPLED_MAX: Final = 20_000
BODY_CHARACTERS_MAX: Final = 1_000
PATTERNS: Final = 50
PATTERNS_MAX: Final = 500
# What stands before a text, a path: else apostrophes and fractions would be taken for some.
_BEFORE: Final = r"(^|[\s=:,;(\[{|])"
# A regular expression (RE2) and what stands in the place of what it finds.
MASKS: Final = (
    # Keys of JSON stay, without their quotes.
    (r'"([A-Za-z_][\w.-]*)"\s*:', r"\1:"),
    (_BEFORE + r'"(?:[^"\\]|\\.)*"', r"\1<text>"),
    (_BEFORE + r"'(?:[^'\\]|\\.)*'", r"\1<text>"),
    (r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+", "<url>"),
    (r"[\w.+-]+@[\w-]+\.[\w.-]+\w", "<email>"),
    (
        r"\b\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\b",
        "<time>",
    ),
    (r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b", "<time>"),
    (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<id>"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", "<ip>"),
    (_BEFORE + r"(?:/[\w.@%+~:-]+){2,}/?", r"\1<path>"),
    (_BEFORE + r"[A-Za-z]:(?:\\[\w.@%+~ -]+)+", r"\1<path>"),
    (r"\b0[xX][0-9a-fA-F]+\b", "<hex>"),
    # With a unit.
    (r"\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?([A-Za-z]{0,3})\b", r"<number>\1"),
    (r"\b[0-9a-fA-F]{8,}\b", "<hex>"),
    # Words in which digits and letters take turns, such as those that name a pod.
    (r"\b[0-9A-Za-z_]*[0-9][A-Za-z_]+[0-9][0-9A-Za-z_]*\b", "<id>"),
    (r"\d+(?:\.\d+)?", "<number>"),
)
_SAMPLED_BY: Final = "cityHash64(Timestamp, ObservedTimestamp, SpanId, Body)"


class PatternsQuery(LogConditions, RangeQuery):
    """Which log records, and how many patterns."""

    limit: int = Field(PATTERNS, ge=1, le=PATTERNS_MAX)


class PatternView(View):
    """Log records that look alike."""

    pattern: str = Field(examples=["order <id> took <number> ms"])
    count: int = Field(description="records of the sample")
    share: float = Field(description="of the sample", examples=[0.25])
    estimated_count: int = Field(description="of all records; exact when all are sampled")
    first_time: str
    last_time: str
    by_severity: dict[str, int]
    sample: LogView = Field(description="the newest of them")


class PatternList(View):
    """Patterns of log records, the most frequent first."""

    data: list[PatternView]
    total: int = Field(description="records that the question is about")
    sampled: int = Field(description="of these, the ones that were looked at")
    meta: MetaView


async def log_patterns(reading: Reading, query: PatternsQuery) -> PatternList:
    """From all records, or a sample of them."""
    span = query.span
    within = [between("Timestamp", span.start_ns, span.end_ns), *query.conditions()]
    counted = await reading.rows(
        Select(columns={"items": "count()"}, source="tf_logs", where=all_of(within))
    )
    total = int(counted[0]["items"])
    one_of = -(-total // SAMPLED_MAX)
    if one_of > 1:
        within.append(sql(f"{_SAMPLED_BY} % ", Value(one_of, "UInt64"), " = 0"))
    rows = await reading.rows(_patterns(within, query.limit))
    sampled = int(rows[0]["sampled"]) if rows else 0
    return PatternList(
        data=[_view(row, total=total, sampled=sampled) for row in rows],
        total=total,
        sampled=sampled,
        meta=meta_of(reading, span, "tf_logs", 0),
    )


def masked(body: Fragment) -> Fragment:
    """*body* with placeholders for what varies."""
    for pattern, replacement in MASKS:
        body = sql("replaceRegexpAll(", body, ", ", text(pattern), ", ", text(replacement), ")")
    return body


def _patterns(within: list[Fragment], limit: int) -> Select:
    short = sql("substringUTF8(Body, 1, ", Value(BODY_CHARACTERS_MAX, "UInt64"), ")")
    records = Select(
        columns={**LINE, "pattern": masked(short)}, source="tf_logs", where=all_of(within)
    )
    newest = ", ".join(f"s_{name}" for name in LINE)
    counted: dict[str, Part] = {
        "pattern": "pattern",
        "items": "count()",
        "first_ns": "min(s_time_ns)",
        "last_ns": "max(s_time_ns)",
        # 0, then 1 to 6 for numbers 1 to 24.
        "severities": "sumMap([intDiv(least(s_severity_number, 24) + 3, 4)], [toUInt64(1)])",
        "newest": f"argMax(tuple({newest}), tuple(s_time_ns, s_identity))",
    }
    groups = Select(columns=counted, source=_renamed(records), group_by=["pattern"])
    return Select(
        columns={**{name: name for name in counted}, "sampled": "sum(items) OVER w"},
        source=groups,
        window="w AS (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)",
        order_by="items DESC, pattern ASC",
        limit=limit,
    )


def _renamed(records: Select) -> Select:
    """With columns under names that no aggregate has."""
    names: dict[str, Part] = {f"s_{name}": name for name in LINE}
    return Select(columns={**names, "pattern": "pattern"}, source=records)


def _view(row: Mapping[str, Any], *, total: int, sampled: int) -> PatternView:
    keys, counts = row["severities"]
    share = row["items"] / sampled
    return PatternView(
        pattern=row["pattern"],
        count=row["items"],
        share=share,
        estimated_count=round(share * total),
        first_time=iso(row["first_ns"]),
        last_time=iso(row["last_ns"]),
        by_severity={SEVERITIES[key]: count for key, count in zip(keys, counts, strict=True)},
        sample=log_view(dict(zip(LINE, row["newest"], strict=True))),
    )
