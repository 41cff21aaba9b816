"""Statements that would reach outside of the server: other files, other hosts, other programs.

The engine has no users and no rights, so the server refuses such statements itself. It takes them
apart the way ClickHouse's lexer does: a pattern over the text could be led astray by quotes and
comments. What the engine offers is asked of the engine; whatever is not known here to stay
inside is refused, so that a new release of the engine opens nothing.
"""

import re
from collections.abc import Iterable
from typing import Final

# Table functions and engines that see nothing but this server's own data.
FUNCTIONS_INSIDE: Final = frozenset(
    (
        *("dictionary", "format", "fuzzjson", "fuzzquery", "generaterandom", "generateseries"),
        *("generate_series", "input", "loop", "merge", "mergetreeanalyzeindexes"),
        *("mergetreeanalyzeindexesuuid", "mergetreecodecblockcounts", "mergetreeindex"),
        *("mergetreeprojection", "mergetreetextindex", "null", "numbers", "numbers_mt", "primes"),
        *("prometheusquery", "prometheusqueryrange", "sqlstandardvalues", "timeseriesdata"),
        *("timeseriesmetricfamilies", "timeseriesmetrics", "timeseriessamples"),
        *("timeseriesselector", "timeseriestags", "values", "view", "viewexplain"),
        *("viewifpermitted", "zeros", "zeros_mt"),
    )
)
ENGINES_INSIDE: Final = frozenset(
    (
        *("alias", "atomic", "buffer", "dictionary", "fuzzjson", "generaterandom", "join", "log"),
        *("loop", "materializedview", "memory", "merge", "null", "ordinary", "set", "stripelog"),
        *("timeseries", "tinylog", "view"),
    )
)
# Neither table function nor engine: read a file, place a table elsewhere, load a dictionary.
_MORE_FUNCTIONS: Final = frozenset(("file", "catboostevaluate", "disk", "source", "executable"))
_FIRST_WORDS: Final = frozenset(("backup", "restore"))
_PAIRS: Final = frozenset(
    (
        *(("into", "outfile"), ("from", "infile"), ("system", "shutdown"), ("system", "kill")),
        # The engine's database of this name reads files, so it is emptied at every start.
        *(("database", "default"), ("exists", "default"), ("use", "default"), ("default", ".")),
    )
)
_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|\#[ !][^\n]*)
    |(?P<comment>/\*(?P<commented>.*?)\*/)
    |(?P<text>'(?:[^'\\]|\\.|'')*'|[xXbB]'[^']*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
    |(?P<word>[A-Za-z_$][\w$]*)
    |(?P<number>\d[\w.]*)
    |(?P<other>.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_TYPOGRAPHIC: Final = "‘’“”\0"  # noqa: RUF001 - quotes of the engine that nobody needs


class Surface:
    """What statements may use; made from the names that the engine has."""

    def __init__(self, *, functions: Iterable[str], engines: Iterable[str]) -> None:
        self._functions = {name.lower() for name in functions} - FUNCTIONS_INSIDE | _MORE_FUNCTIONS
        self._engines = {
            name.lower()
            for name in engines
            if name.lower() not in ENGINES_INSIDE and not name.lower().endswith("mergetree")
        }

    def outside(self, sql: str) -> str | None:
        """The words by which *sql* would reach outside, None when it stays inside."""
        tokens = _tokens(sql)
        if tokens is None:
            return "nested comments and typographic quotes"
        if tokens and tokens[0] in _FIRST_WORDS:
            return tokens[0]
        for at, word in enumerate(tokens):
            following = tokens[at + 1 : at + 3]
            if word in self._functions and following[:1] == ["("]:
                return f"{word}()"
            if following and (word, following[0]) in _PAIRS:
                return f"{word} {following[0]}"
            if word == "engine" and self._names_engine(following):
                return " ".join((word, *following))
        return None

    def _names_engine(self, following: list[str]) -> bool:
        name = following[1:] if following[:1] == ["="] else following[:1]
        return bool(name) and name[0] in self._engines


def _tokens(sql: str) -> list[str] | None:
    """Words and signs in lower case, texts as `''`; None when they cannot be told apart safely."""
    tokens = []
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup
        if match[0] in _TYPOGRAPHIC or (kind == "comment" and "/*" in match["commented"]):
            return None
        if kind in ("space", "comment") or (kind == "other" and not match[0].isascii()):
            continue  # what is not ASCII and no quote is space to the engine, or an error
        if kind == "text":
            tokens.append("''")
        elif kind == "quoted":
            tokens.append(match[0][1:-1].lower())
        else:
            tokens.append(match[0].lower())
    return tokens
