"""A small tree of SELECTs, and its text with server-side parameters.

A fragment is made of texts, which are constants of this package, and of `Value`s, which become
parameters `{p0:Type}` of ClickHouse: what a client sends is only ever a value. Tables stand in one
place, `_table`, which puts the tenant beside each; `checker` looks at the text again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from control.telemetry.queries.catalogue import TABLES, TRACE_TIMES

TENANT_PARAMETER: Final = "tenant"
_SLOTTED: Final = ("tf_traces",)
_SLOT_SECONDS: Final = 300
_SECOND_NS: Final = 1_000_000_000
_SLOT_NS: Final = _SLOT_SECONDS * _SECOND_NS
# Seconds of a DateTime; those of what is beyond begin anew.
_SLOTS_END: Final = 1 << 32


class Value(NamedTuple):
    """What goes in as a parameter, with its type in ClickHouse's words."""

    content: Any
    type: str


class Fragment(NamedTuple):
    """A piece of SQL.

    *first*: conditions that follow from it and read little. Of rows that do not fulfil them nothing
    else needs to be read.
    """

    parts: tuple[str | Value, ...]
    first: tuple["Fragment", ...] = ()


Part = str | Value | Fragment


def sql(*parts: Part) -> Fragment:
    """The pieces, one behind the other."""
    found: list[str | Value] = []
    for part in parts:
        found.extend(part.parts if isinstance(part, Fragment) else [part])
    return Fragment(tuple(found))


def text(content: str) -> Value:
    """A text of the client's."""
    return Value(content, "String")


def texts(content: Sequence[str]) -> Value:
    """Several of them."""
    return Value(list(content), "Array(String)")


def joined(separator: str, pieces: Sequence[Part]) -> Fragment:
    """The pieces with *separator* between them."""
    found: list[Part] = []
    for piece in pieces:
        found += [separator, piece] if found else [piece]
    return sql(*found)


def all_of(conditions: Sequence[Fragment]) -> Fragment:
    """Conjunction; of nothing it is true."""
    if not conditions:
        return sql("1")
    first = tuple(one for condition in conditions for one in condition.first)
    return sql("(", joined(") AND (", conditions), ")")._replace(first=first)


def any_of(conditions: Sequence[Fragment]) -> Fragment:
    """Disjunction; of nothing it is false."""
    return sql("(", joined(") OR (", conditions), ")") if conditions else sql("0")


def moment(time_ns: int) -> Fragment:
    """A time, to the nanosecond."""
    return sql("fromUnixTimestamp64Nano(", Value(time_ns, "Int64"), ")")


def between(column: str, start_ns: int, end_ns: int) -> Fragment:
    """From *start_ns* on, before *end_ns*."""
    return sql(f"{column} >= ", moment(start_ns), f" AND {column} < ", moment(end_ns))


def on_days(start_ns: int, end_ns: int) -> Fragment:
    """Of a catalogue that is kept by day: the days of the server that the range has a part of."""
    first, last = start_ns // _SECOND_NS, (end_ns - 1) // _SECOND_NS
    return sql(
        "Day >= toDate(", Value(first, "Int64"), ") AND Day <= toDate(", Value(last, "Int64"), ")"
    )


def during(table: str, column: str, start_ns: int, end_ns: int) -> Fragment:
    """As `between`, found by the sort key of *table*.

    In the key of spans the services stand between tenant and time, and what is said of the time
    alone excludes nothing: of a day all spans of the tenant would be looked at. What is said of the
    five minutes, which stand before the time, excludes all others of each service.
    """
    first, last = start_ns // _SLOT_NS * _SLOT_SECONDS, (end_ns - 1) // _SLOT_NS * _SLOT_SECONDS
    within = between(column, start_ns, end_ns)
    if table not in _SLOTTED or not 0 <= first <= last < _SLOTS_END:
        return within
    slot = f"toStartOfFiveMinutes({column})"
    return sql(within, f" AND {slot} >= toDateTime({first}) AND {slot} <= toDateTime({last})")


@dataclass(frozen=True, kw_only=True)
class Select:
    """A SELECT; *columns* are expressions by the name that they get.

    Of several sources, which have the same columns, the rows of all are read. *looks_first*: what
    `Fragment.first` says is looked at before the rest is read (PREWHERE). That halves the search
    for a rare value; a value that most rows have is read twice, so it is for pages, which end soon.
    """

    columns: Mapping[str, Part]
    source: "str | Select | tuple[Select, ...]"
    where: Fragment | None = None
    looks_first: bool = False
    joins: Sequence["Join"] = ()
    array_join: str = ""
    group_by: Sequence[str] = ()
    having: Fragment | None = None
    window: str = ""
    order_by: str = ""
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class Join:
    """INNER JOIN of another SELECT under a name."""

    select: Select
    name: str
    on: str


@dataclass
class Rendering:
    """The text as it grows, and its parameters."""

    database: str
    tenant: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Every text has the tenant's parameter."""
        self.parameters[TENANT_PARAMETER] = self.tenant

    def text_of(self, select: Select) -> str:
        """The text of *select*; parameters are gathered meanwhile."""
        columns = ", ".join(f"{self._text(one)} AS {name}" for name, one in select.columns.items())
        clauses = [f"SELECT {columns}", f"FROM {self._source(select)}"]
        if select.array_join:
            clauses.insert(2, f"ARRAY JOIN {select.array_join}")
        if not isinstance(select.source, str) and select.where is not None:
            clauses.append(f"WHERE {self._text(select.where)}")
        if select.group_by:
            clauses.append(f"GROUP BY {', '.join(select.group_by)}")
        if select.having is not None:
            clauses.append(f"HAVING {self._text(select.having)}")
        if select.window:
            clauses.append(f"WINDOW {select.window}")
        if select.order_by:
            clauses.append(f"ORDER BY {select.order_by}")
        if select.limit is not None:
            clauses.append(f"LIMIT {int(select.limit)}")
        if select.offset:
            clauses.append(f"OFFSET {int(select.offset)}")
        return " ".join(clauses)

    def _source(self, select: Select) -> str:
        if isinstance(select.source, tuple):
            return f"({' UNION ALL '.join(map(self.text_of, select.source))})"
        if isinstance(select.source, Select):
            joins = "".join(
                f" INNER JOIN ({self.text_of(one.select)}) AS {one.name} ON {one.on}"
                for one in select.joins
            )
            alias = " AS s" if select.joins else ""
            return f"({self.text_of(select.source)}){alias}{joins}"
        first = select.where.first if select.where and select.looks_first else ()
        return self._table(select.source, select.where, first)

    def _table(self, table: str, where: Fragment | None, first: Sequence[Fragment]) -> str:
        """The only place that names a table: its rows are the tenant's."""
        if table not in TABLES:
            raise ValueError(f"{table} is not in the catalogue")
        tenant = f"{{{TENANT_PARAMETER}:String}}"
        if table == TRACE_TIMES:
            # It has no tenant, but a hash of tenant and trace: *where* is the trace.
            trace = self._text(where) if where is not None else ""
            return f"{self.database}.{table} WHERE H = cityHash64({tenant}, unhex({trace}))"
        condition = f" AND ({self._text(where)})" if where is not None else ""
        before = f" PREWHERE {self._text(all_of(first))}" if first else ""
        return f"{self.database}.{table}{before} WHERE TenantId = {tenant}{condition}"

    def _text(self, part: Part) -> str:
        if isinstance(part, str):
            return part
        if isinstance(part, Value):
            name = f"p{len(self.parameters) - 1}"
            self.parameters[name] = part.content
            return f"{{{name}:{part.type}}}"
        return "".join(map(self._text, part.parts))
