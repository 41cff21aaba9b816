"""The last line: a look at the final text, that knows nothing of how it was made.

Refused is all that is not in this narrow language: words of a list, functions of a list, columns
and tables of the catalogue, each table with its tenant right behind it and nothing that could
widen that; several SELECTs only as the source of one. There are no comments, no semicolons, no
texts but a few constants, and so nothing that two lexers could read in two ways.
"""

import re
from itertools import pairwise
from typing import Final

from control.telemetry.queries.catalogue import LOGS, TABLES, TRACE_TIMES, TRACES

_KEYWORDS: Final = frozenset(
    (
        *("SELECT", "FROM", "PREWHERE", "WHERE", "AND", "OR", "NOT", "IN", "AS", "GROUP", "BY"),
        *("ORDER", "ASC", "DESC", "LIMIT", "OFFSET", "INNER", "JOIN", "ON", "ARRAY", "OVER"),
        *("WINDOW", "PARTITION", "ROWS", "BETWEEN", "UNBOUNDED", "PRECEDING", "CURRENT", "ROW"),
        *("FOLLOWING", "UNION", "ALL", "HAVING"),
    )
)
_BEFORE_PARENTHESES: Final = frozenset(
    ("FROM", "PREWHERE", "AND", "OR", "NOT", "IN", "JOIN", "WHERE", "AS")
)
FUNCTIONS: Final = frozenset(
    (
        *("any", "anyLast", "argMax", "argMin", "arrayConcat", "arrayElement", "arrayJoin"),
        *("arrayMap", "arrayZip", "arrayExists", "arrayFirst", "avg", "avgIf", "cityHash64"),
        *("count", "countIf", "fromUnixTimestamp64Nano", "groupUniqArray", "has", "hasAny"),
        *("hasToken", "hex", "if", "ifNull", "intDiv", "isFinite", "lagInFrame", "length"),
        *("least", "greatest", "lower", "map", "mapContains", "mapKeys", "mapValues", "match"),
        *("max", "maxIf", "min", "minIf", "multiIf", "position", "positionCaseInsensitive"),
        *("quantileTDigest", "quantilesTDigest", "quantilesTDigestMerge", "quantileExact"),
        *("quantilesTDigestMergeState", "toStartOfHour", "toStartOfFiveMinutes", "transform"),
        *("groupUniqArrayArray",),
        *("range", "roundToExp2", "row_number", "startsWith", "sum", "sumForEach", "sumIf"),
        *("sumMap", "toDate", "toDateTime", "toFloat64", "toFloat64OrNull", "toInt64", "toString"),
        *("toStartOfDay", "toUInt64", "toUnixTimestamp", "toUnixTimestamp64Nano", "topK"),
        *("tuple", "uniqExact", "unhex", "arrayResize", "toInt32", "bitAnd", "reverse"),
        *("groupArray", "arraySort", "log2", "floor", "toUInt8", "quantilesExactInclusive"),
        *("mapFromArrays", "tupleElement", "quantilesExact", "replaceRegexpAll"),
        *("reinterpretAsUInt128", "substringUTF8"),
    )
)
_BETWEEN_SELECTS: Final = ("UNION",)
_BEHIND_TABLE: Final = ("PREWHERE",)
_PARAMETER_TYPES: Final = frozenset(
    (
        *("String", "Int64", "UInt64", "UInt8", "Float64"),
        *("Array(String)", "Array(Int64)", "Array(UInt64)", "Array(UInt32)", "Array(UInt128)"),
    )
)
_TEXTS: Final = frozenset(("''", f"'{'0' * 32}'", f"'{'0' * 16}'", "'Error'", "'UTC'"))
_TEXT_OF_WORD: Final = re.compile(r"'[A-Za-z_]{1,24}'")
_TOKEN: Final = re.compile(
    r"""
    (?P<space>[ ]+)
    |(?P<parameter>\{[a-z]+[0-9]*:[A-Za-z0-9()]+\})
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<quoted>`[A-Za-z]+\.[A-Za-z]+`)
    |(?P<number>[0-9]+(?:\.[0-9]+)?)
    |(?P<text>'[A-Za-z0-9_]*')
    |(?P<sign>->|!=|<=|>=|[(),.=<>+*/%\-\[\]])
    """,
    re.VERBOSE,
)
_TENANT: Final = ["WHERE", "TenantId", "=", "{tenant:String}"]
# Of the table that has a hash of tenant and trace instead.
_TENANT_AND_TRACE: Final = ["WHERE", "H", "=", "cityHash64", "(", "{tenant:String}", ","]
_TRACE: Final = re.compile(r"unhex \( \{p[0-9]+:String\} \) \)")
_AFTER_TABLE: Final = frozenset((")", "GROUP", "ORDER", "LIMIT", "WINDOW", "HAVING", "UNION", ""))
# Of lambdas, and the name of the one window.
_VARIABLES: Final = frozenset(("x", "y", "w"))
_COLUMNS: Final = frozenset(name for columns in TABLES.values() for name in columns) | frozenset(
    attributes.values.strip("`")
    for source in (TRACES, LOGS)
    for attributes in source.attributes.values()
    if attributes.is_indexed
)


class Refused(Exception):
    """The text is outside of what may be asked: a defect of this product, never run."""


def check(text: str, database: str) -> None:
    """Refused, unless *text* is one SELECT over tables of the catalogue, of one tenant."""
    tokens = _tokens(text)
    if tokens[:1] != ["SELECT"]:
        raise Refused("not a SELECT")
    named = {after for word, after in pairwise(tokens) if word == "AS"}
    known = {name for name in named if name not in _KEYWORDS} | _COLUMNS | _VARIABLES
    at = 0
    while at < len(tokens):
        token, following = tokens[at], tokens[at + 1 : at + 2]
        if token in _BETWEEN_SELECTS:
            _check_union(tokens, at)
        if token in _BEHIND_TABLE and tokens[at - 3 : at - 1] != [database, "."]:
            raise Refused("PREWHERE")
        if token in ("FROM", "JOIN") and tokens[at - 1] != "ARRAY":
            at = _table(tokens, at + 1, database)
            continue
        if _is_word(token):
            _check_word(token, is_called=following == ["("], known=known)
        at += 1


def _check_union(tokens: list[str], at: int) -> None:
    """Whether it adds one more SELECT to a source."""
    before = tokens[:at]
    is_inside = before.count("(") > before.count(")")
    if not is_inside or tokens[at + 1 : at + 3] != ["ALL", "SELECT"]:
        raise Refused("UNION")


def _is_word(token: str) -> bool:
    return token[:1].isalpha() or token[:1] in ("_", "`")


def _check_word(word: str, *, is_called: bool, known: set[str]) -> None:
    if is_called and word not in FUNCTIONS and word not in _KEYWORDS:
        raise Refused(f"the function {word}")
    if not is_called and word not in _KEYWORDS and word.strip("`") not in known:
        raise Refused(f"the word {word}")
    if is_called and word in _KEYWORDS and word not in (*_BEFORE_PARENTHESES, "OVER", "BY", "ON"):
        raise Refused(f"{word} before a parenthesis")


def _table(tokens: list[str], at: int, database: str) -> int:
    """The position behind a source, when the predicate of its tenant is where it has to be."""
    if tokens[at : at + 2] == ["(", "SELECT"]:
        return at
    named = tokens[at : at + 3]
    if named[:2] != [database, "."] or len(named) < 3 or named[2] not in TABLES:
        raise Refused(f"the source {' '.join(named)}")
    end = at + 3
    if tokens[end : end + 2] == ["PREWHERE", "("]:
        # It can only leave rows out: the tenant's predicate follows.
        end = _closing(tokens, end + 1) + 1
    end = _behind_tenant(tokens, end, named[2])
    if tokens[end : end + 2] == ["AND", "("]:
        closed = _closing(tokens, end + 1)
        following = (tokens[closed + 1 : closed + 2] or [""])[0]
    else:
        following = (tokens[end : end + 1] or [""])[0]
    if following not in _AFTER_TABLE:
        raise Refused(f"{following} behind the tenant of {named[2]}")
    return at + 3


def _behind_tenant(tokens: list[str], at: int, table: str) -> int:
    """The position behind the predicate of the tenant, which begins at *at*."""
    expected = _TENANT_AND_TRACE if table == TRACE_TIMES else _TENANT
    end = at + len(expected)
    found = tokens[at:end] == expected
    if table == TRACE_TIMES:
        found = found and _TRACE.fullmatch(" ".join(tokens[end : end + 5])) is not None
        end += 5
    if not found:
        raise Refused(f"{table} without its tenant")
    return end


def _closing(tokens: list[str], at: int) -> int:
    depth = 0
    for place in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[place], 0)
        if depth == 0:
            return place
    raise Refused("a parenthesis that is not closed")


def _tokens(text: str) -> list[str]:
    if "--" in text or "/*" in text:
        raise Refused("a comment")
    tokens = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Refused(f"the sign {text[at]!r}")
        at = match.end()
        kind, token = match.lastgroup, match[0]
        if kind == "space":
            continue
        if kind == "parameter" and token[1:-1].partition(":")[2] not in _PARAMETER_TYPES:
            raise Refused(f"the type of {token}")
        if kind == "text" and token not in _TEXTS and not _TEXT_OF_WORD.fullmatch(token):
            raise Refused(f"the text {token}")
        tokens.append(token)
    return tokens
