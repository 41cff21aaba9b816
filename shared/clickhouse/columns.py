"""The columns that the migrations give each table, read from their CREATE TABLE statements."""

import re
from typing import Final

_TABLE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS \S+\.(?P<name>\w+)\s*(?=\()")
_DROPPED: Final = re.compile(r"DROP TABLE IF EXISTS \S+\.(?P<name>\w+)")
_COLUMN: Final = re.compile(
    r"(?P<name>\w+)\s+(?P<type>.+?)(?:\s+(?:DEFAULT\s|CODEC\().*)?", re.DOTALL
)
_NESTED: Final = re.compile(r"Nested\s*\((?P<members>.*)\)", re.DOTALL)


def columns_of(statements: str) -> dict[str, dict[str, str]]:
    """Column names and types, as DESCRIBE shows them, of every table that is created to stay."""
    dropped = {match["name"] for match in _DROPPED.finditer(statements)}
    return {
        match["name"]: _columns(_in_parentheses(statements, match.end()))
        for match in _TABLE.finditer(statements)
        if match["name"] not in dropped
    }


def _columns(definitions: str) -> dict[str, str]:
    found = {}
    for definition in _split(definitions):
        match = _COLUMN.fullmatch(definition)
        if match is None or match["name"] == "INDEX":
            continue
        nested = _NESTED.fullmatch(match["type"])
        if nested is None:
            found[match["name"]] = match["type"]
            continue
        for name, kind in _columns(nested["members"]).items():
            found[f"{match['name']}.{name}"] = f"Array({kind})"
    return found


def _in_parentheses(text: str, start: int) -> str:
    """What stands between the parenthesis at *start* and the one that closes it."""
    depth = 0
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return text[start + 1 : at]
    return ""


def _split(definitions: str) -> list[str]:
    """The parts between the commas that are not inside of parentheses."""
    depth = 0
    parts = [""]
    for character in definitions:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
