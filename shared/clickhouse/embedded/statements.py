"""What the server must know of a statement before the engine sees it.

ClickHouse takes the SQL and the data of an INSERT in one body. The part up to FORMAT or VALUES is
the statement; what follows is data in that format, and may be very large.
"""

import re
from dataclasses import dataclass
from typing import Final

# ClickHouse's max_query_size: a statement without its data is not longer.
STATEMENT_BYTES_MAX: Final = 262_144

_COMMENTS: Final = rb"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_TABLE: Final = rb"(?:table\s+)?(?:`[^`]*`|\"[^\"]*\"|[\w.])+"
_COLUMNS: Final = rb"\s*(?:\((?:`[^`]*`|[^()`])*\))?"
_SETTINGS: Final = rb"\s*(?:settings\s(?:'(?:[^'\\]|\\.)*'|[^';])*?)?"
_INSERT: Final = re.compile(
    _COMMENTS + rb"insert\s+into\s+" + _TABLE + _COLUMNS + _SETTINGS + rb"\b"
    rb"(?:format\s+(?P<format>\w+)(?:[ \t\r]*(?:;|\n|$)|\s)|(?P<values>values)\b)",
    re.IGNORECASE | re.DOTALL,
)
_INSERT_START: Final = re.compile(_COMMENTS + rb"insert\s", re.IGNORECASE | re.DOTALL)
_SELECT_START: Final = re.compile(
    _COMMENTS.decode() + r"(?:\(|select\b|with\b|from\b)", re.IGNORECASE | re.DOTALL
)
_FORMAT: Final = re.compile(
    r"\bformat\s+(?P<format>\w+)\s*(?:settings\s[^;]*)?;?\s*$", re.IGNORECASE
)
_LITERALS: Final = re.compile(r"'(?:[^'\\]|\\.|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_KILL: Final = re.compile(
    r"\s*kill\s+query\s+where\s+query_id\s*=\s*'(?P<query_id>[^'\\]*)'\s*"
    r"(?P<rest>(?:sync|async|test)?)\s*;?\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT that brings data: the statement up to its format, and what came behind it."""

    statement: str
    format: str
    data: bytes


def split_insert(head: bytes) -> Insert | None:
    """The INSERT that *head* begins with; None when it is another statement, or not all there."""
    match = _INSERT.match(head)
    if match is None:
        return None
    if match["format"]:
        end = match.start("format")
        statement = re.sub(rb"\s+format\s+$", b"", head[:end], flags=re.IGNORECASE)
        return Insert(statement.decode(), match["format"].decode(), head[match.end() :])
    end = match.start("values")
    return Insert(head[:end].rstrip().decode(), "Values", head[match.end() :])


def may_be_insert(head: bytes) -> bool:
    """Whether *head* begins like an INSERT, whose data may still be to come."""
    return _INSERT_START.match(head) is not None


def is_select(sql: str) -> bool:
    """Whether *sql* is a query whose result the engine can give in pieces."""
    return _SELECT_START.match(sql) is not None


def output_format(sql: str, default: str) -> str:
    """The format that a query names at its end, else *default*."""
    match = _FORMAT.search(_LITERALS.sub("", sql))
    return match["format"] if match else default


def killed_query(sql: str) -> tuple[str, str] | None:
    """The query id that *sql* is to kill, and the word behind it; None for other statements."""
    match = _KILL.fullmatch(sql)
    return (match["query_id"], match["rest"]) if match else None
