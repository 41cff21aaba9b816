"""Filters: conditions over fields and attributes, nested with and, or, not.

A comparison holds for items that have the attribute: `ne` too; `not` turns around whatever stands
inside of it. Attributes are kept as texts: a number or a boolean is compared as such.
"""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import Field as Described
from pydantic import TypeAdapter, ValidationError

from control.telemetry.queries.catalogue import (
    Attributes,
    Field,
    Source,
    attribute_of,
    field_of,
    hex_id,
)
from control.telemetry.queries.sql import Fragment, Value, all_of, any_of, sql, text, texts
from shared.errors import Invalid
from shared.http.models import Body, Text
from shared.http.problems import InvalidFields

DEPTH_MAX: Final = 8
FILTERS_MAX: Final = 32
CONDITIONS_MAX: Final = 64
VALUES_MAX: Final = 100
TEXT_CHARACTERS_MAX: Final = 1_000
REGEX_CHARACTERS_MAX: Final = 500
INT64_MAX: Final = 2**63 - 1

Name = Annotated[Text, Described(min_length=1, max_length=220, examples=["attributes.http.route"])]
Content = Annotated[Text, Described(max_length=TEXT_CHARACTERS_MAX)]
Number = Annotated[int, Described(ge=-INT64_MAX, le=INT64_MAX)]
Scalar = bool | Number | float | Content
# A word as ClickHouse's token index cuts texts.
_WORD: Final = re.compile(r"[0-9A-Za-z\u0080-\U0010ffff]+")
_PHRASE: Final = re.compile(r'"([^"]*)"')


class And(Body):
    """All of them."""

    op: Literal["and"]
    filters: list["Filter"] = Described(min_length=1, max_length=FILTERS_MAX)


class Or(Body):
    """At least one of them."""

    op: Literal["or"]
    filters: list["Filter"] = Described(min_length=1, max_length=FILTERS_MAX)


class Not(Body):
    """What it does not hold for."""

    op: Literal["not"]
    filter: "Filter"


class Compare(Body):
    """A comparison with one value: a text, a number or a boolean."""

    op: Literal["eq", "ne", "lt", "le", "gt", "ge"]
    field: Name
    value: Scalar


class OneOf(Body):
    """Equal to one of the values, or (notIn) to none of them."""

    op: Literal["in", "notIn"]
    field: Name
    values: list[Scalar] = Described(min_length=1, max_length=VALUES_MAX)


class Exists(Body):
    """The attribute is there; of a column: it is not empty."""

    op: Literal["exists"]
    field: Name


class Matches(Body):
    """A regular expression (RE2) that matches anywhere in the text."""

    op: Literal["regex"]
    field: Name
    value: Annotated[Text, Described(min_length=1, max_length=REGEX_CHARACTERS_MAX)]


class Contains(Body):
    """A part of the text."""

    op: Literal["contains"]
    field: Name
    value: Annotated[Text, Described(min_length=1, max_length=TEXT_CHARACTERS_MAX)]
    ignore_case: bool = False


Filter = Annotated[
    And | Or | Not | Compare | OneOf | Exists | Matches | Contains,
    Described(discriminator="op"),
]
for _nested in (And, Or, Not):
    _nested.model_rebuild()
_ADAPTER: Final[TypeAdapter[Any]] = TypeAdapter(Filter)
_SIGNS: Final = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def filter_of(json: str) -> Any:
    """A filter that came as the text of a query parameter."""
    try:
        return _ADAPTER.validate_json(json, strict=True)
    except ValidationError as error:
        raise InvalidFields.of(error, "filter") from None


def condition_of(source: Source, given: Any, *, depth: int = 0) -> Fragment:
    """The filter as SQL; Invalid for a field that the source does not have."""
    if depth == 0 and _size(given) > CONDITIONS_MAX:
        raise Invalid(f"a filter has at most {CONDITIONS_MAX} conditions", field="filter")
    if depth > DEPTH_MAX:
        raise Invalid(f"filters nest at most {DEPTH_MAX} deep", field="filter")
    match given:
        case And():
            return all_of([condition_of(source, one, depth=depth + 1) for one in given.filters])
        case Or():
            return any_of([condition_of(source, one, depth=depth + 1) for one in given.filters])
        case Not():
            return sql("NOT (", condition_of(source, given.filter, depth=depth + 1), ")")
    found = attribute_of(source, given.field)
    if found is not None:
        return _of_attribute(*found, given)
    return _of_field(field_of(source, given.field), given)


def _size(given: Any) -> int:
    match given:
        case And() | Or():
            return sum(map(_size, given.filters))
        case Not():
            return _size(given.filter)
    return 1


def _of_attribute(attributes: Attributes, key: str, given: Any) -> Fragment:
    column = attributes.column
    here = sql(f"mapContains({column}, ", text(key), ")")
    content = sql(f"{column}[", text(key), "]")
    match given:
        case Exists():
            return here
        case Compare(op="eq", value=value):
            conditions = [here, _equal_text(content, value)]
            if attributes.is_indexed and not isinstance(value, float):
                conditions.append(_among_values(attributes, "has", text(_as_text(value))))
            return all_of(conditions)
        case Compare(op="ne", value=value):
            return all_of([here, sql("NOT (", _equal_text(content, value), ")")])
        case Compare():
            return all_of([here, _ordered(content, given)])
        case OneOf():
            conditions = [here, _in_texts(content, given)]
            if attributes.is_indexed and given.op == "in" and not _has_float(given.values):
                wanted = texts([_as_text(one) for one in given.values])
                conditions.append(_among_values(attributes, "hasAny", wanted))
            return all_of(conditions)
    return all_of([here, _of_text(content, given)])


def _among_values(attributes: Attributes, function: str, wanted: Value) -> Fragment:
    """A value of any key: what the index knows, and half of what the map is to read."""
    first = sql(f"{function}({attributes.values}, ", wanted, ")")
    by_index = sql(f"{function}(mapValues({attributes.column}), ", wanted, ")")
    return by_index._replace(first=(first,))


def _ordered(content: Fragment, given: Compare) -> Fragment:
    """lt, le, gt, ge: of numbers where the value is one, else of texts."""
    sign = f" {_SIGNS[given.op]} "
    if isinstance(given.value, bool):
        raise Invalid(f"{given.op} compares numbers or texts", field=given.field)
    if isinstance(given.value, str):
        return sql(content, sign, text(given.value))
    number = Value(float(given.value), "Float64")
    return sql("ifNull(toFloat64OrNull(", content, ")", sign, number, ", 0)")


def _equal_text(content: Fragment, value: Any) -> Fragment:
    if isinstance(value, float):
        return sql("ifNull(toFloat64OrNull(", content, ") = ", Value(value, "Float64"), ", 0)")
    return sql(content, " = ", text(_as_text(value)))


def _in_texts(content: Fragment, given: OneOf) -> Fragment:
    found = any_of([_equal_text(content, one) for one in given.values if isinstance(one, float)])
    plain = [_as_text(one) for one in given.values if not isinstance(one, float)]
    both = sql("has(", texts(plain), ", ", content, ") OR ", found)
    return sql("NOT (", both, ")") if given.op == "notIn" else sql("(", both, ")")


def _has_float(values: list[Any]) -> bool:
    return any(isinstance(one, float) for one in values)


def _as_text(value: Any) -> str:
    """As the codec writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _of_text(content: Fragment, given: Any) -> Fragment:
    match given:
        case Matches(value=value):
            return sql("match(", content, ", ", text(value), ")")
        case Contains(value=value, ignore_case=True):
            return sql("positionCaseInsensitive(", content, ", ", text(value), ") > 0")
        case Contains(value=value):
            return sql("position(", content, ", ", text(value), ") > 0")
    raise Invalid(f"{given.op} is not for {given.field}", field=given.field)


def _of_field(field: Field, given: Any) -> Fragment:
    content = sql(field.expression)
    if isinstance(given, Exists):
        return sql(content, " != ", "0" if field.kind == "number" else "''")
    if field.kind == "number":
        return _of_number(content, given)
    if isinstance(given, Compare):
        return sql(content, f" {_SIGNS[given.op]} ", text(_id_or_text(field, given, given.value)))
    if isinstance(given, OneOf):
        values = texts([_id_or_text(field, given, one) for one in given.values])
        return sql("NOT " if given.op == "notIn" else "", "has(", values, ", ", content, ")")
    return _of_text(content, given)


def _id_or_text(field: Field, given: Any, value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{given.field} is a text", field=given.field)
    if field.kind == "id" and value:
        return hex_id(value, 32 if given.field == "traceId" else 16)
    if field.words and value not in field.words and given.op in ("eq", "ne", "in", "notIn"):
        raise Invalid(f"{given.field} is one of {', '.join(field.words)}", field=given.field)
    return value


def _of_number(content: Fragment, given: Any) -> Fragment:
    values = given.values if isinstance(given, OneOf) else [getattr(given, "value", None)]
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in values) or (
        not isinstance(given, Compare | OneOf)
    ):
        raise Invalid(f"{given.field} is a number", field=given.field)
    numbers = [
        sql(content, f" {_SIGNS[given.op]} " if isinstance(given, Compare) else " = ", _number(one))
        for one in values
    ]
    found = any_of(numbers)
    return sql("NOT (", found, ")") if given.op == "notIn" else found


def _number(value: Any) -> Value:
    return Value(value, "Int64" if isinstance(value, int) else "Float64")


def search_of(body: str, search: str) -> Fragment:
    """Every word of *search* stands in the text, phrases in quotes as they are; case counts.

    Words are found through the token index.
    """
    parts: list[Fragment] = [
        sql(f"position({body}, ", text(phrase), ") > 0")
        for phrase in _PHRASE.findall(search)
        if phrase
    ]
    # The first and the last word of a phrase may be parts of longer ones.
    words = [word for phrase in _PHRASE.findall(search) for word in _WORD.findall(phrase)[1:-1]]
    for piece in _PHRASE.sub(" ", search).replace('"', " ").split():
        found = _WORD.findall(piece)
        words += found
        if found != [piece]:
            parts.append(sql(f"position({body}, ", text(piece), ") > 0"))
    tokens = [sql(f"hasToken({body}, ", text(word), ")") for word in dict.fromkeys(words)]
    if len(tokens) + len(parts) > CONDITIONS_MAX:
        raise Invalid(f"search for at most {CONDITIONS_MAX} words", field="search")
    return all_of([*tokens, *parts])
