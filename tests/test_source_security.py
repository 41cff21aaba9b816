"""Rules of the source that keep whole classes of attacks out."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import control
import ingest
import shared

ROOT = Path(__file__).parents[1]
PRODUCT = ("control", "ingest", "shared")
RUNS_SQL = {
    *("execute", "executemany", "fetch", "fetchrow", "fetchval", "look_up"),
    *("command", "query"),
}
# What a label of our own metrics may be: each has few values, whoever sends whatever.
LABELS = {
    *("code", "engine", "event", "form", "kind", "lane", "level", "method", "operation", "outcome"),
    *("partition", "process", "protocol", "queue", "reason", "result", "signal", "state"),
    *("status", "store", "subscriber", "table", "target", "topic", "transport", "version"),
    # Of the libraries' own collectors.
    *("generation", "implementation", "major", "minor", "patchlevel", "le"),
}


# ClickHouse's DDL has no parameters: its names are checked where they come from.
TO_CLICKHOUSE = (
    *("ingest/", "shared/clickhouse/"),
    *("control/cli/ledger.py", "control/cli/rejected.py"),
)
# CREATE DATABASE takes none: the name is an operator's, and quoted.
NO_PARAMETERS = {"shared/postgres/migrate.py"}
# Several statements in one exchange take none either: only digits of ids come from outside.
OF_TRANSACTIONS = {
    *("begin", "end", "connection.get_reset_query()"),
    *("_digits(scope.organization_id)", "_digits(scope.tenant_id)"),
    "'on' if scope.is_platform else ''",
}


def trees() -> Iterator[tuple[str, list[str], ast.Module]]:
    for package in PRODUCT:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            yield str(path.relative_to(ROOT)), text.splitlines(), ast.parse(text)


def put_together(node: ast.expr) -> bool:
    """Whether a text is made of parts that are no constants of the module."""
    match node:
        case ast.JoinedStr(values=parts):
            return any(
                put_together_part(part.value)
                for part in parts
                if isinstance(part, ast.FormattedValue)
            )
        case ast.BinOp(op=ast.Add() | ast.Mod()):
            return not isinstance(node.left, ast.Constant) or not isinstance(
                node.right, ast.Constant
            )
        case ast.Call(func=ast.Attribute(attr="format" | "join" | "replace")):
            return True
    return False


def put_together_part(part: ast.expr) -> bool:
    if isinstance(part, ast.Name):
        return not part.id.isupper()
    # The one thing that a caller chooses is a column of a whitelist.
    return ast.unparse(part) != "query.order_by()"


def is_of_transactions(path: str, text: ast.expr) -> bool:
    return (
        path == "shared/postgres/database.py"
        and isinstance(text, ast.JoinedStr)
        and all(
            ast.unparse(part.value) in OF_TRANSACTIONS
            for part in text.values
            if isinstance(part, ast.FormattedValue)
        )
    )


def sql_of(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in RUNS_SQL
            and node.args
        ):
            yield node.args[0]


def test_S48_SQL_for_PostgreSQL_is_constant_and_values_are_bound() -> None:
    found = []
    for path, lines, tree in trees():
        if path.startswith(TO_CLICKHOUSE) or path in NO_PARAMETERS:
            continue
        for text in sql_of(tree):
            if is_of_transactions(path, text):
                continue
            here = lines[text.lineno - 1 : text.end_lineno]
            if put_together(text) and not any("S608 - names of our own" in line for line in here):
                found.append(f"{path}:{text.lineno}")

    assert found == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ('c.execute(f"SELECT {name}")', True),
        ('c.fetch("SELECT " + name)', True),
        ('c.fetch("SELECT %s" % name)', True),
        ('c.fetch("SELECT {}".format(name))', True),
        ('c.fetch(f"SELECT {_COLUMNS} ORDER BY {query.order_by()}")', False),
        ('c.fetch("SELECT $1", name)', False),
    ],
)
def test_S48_the_rule_finds_what_it_is_for(text: str, is_found: bool) -> None:
    (statement,) = sql_of(ast.parse(text))

    assert put_together(statement) is is_found


def test_S32_look_ups_call_stable_functions_and_nothing_else() -> None:
    """They leave the session as it is: nothing is reset after them, and they have no scope."""
    migrations = (ROOT / "control" / "migrations").glob("*.sql")
    ddl = "".join(path.read_text() for path in migrations)
    stable = set(re.findall(r"CREATE FUNCTION (\w+)\([^$]*?\bSTABLE\b", ddl))
    found = {
        path: statement
        for path, _lines, tree in trees()
        for statement in look_ups_of(tree)
        if not is_look_up(statement, stable)
    }

    assert len(stable) > 5
    assert found == {}


def look_ups_of(tree: ast.Module) -> Iterator[str]:
    texts = {
        ast.unparse(node.target): ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and node.value is not None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".look_up"):
            text = ast.unparse(node.args[0])
            yield " ".join(ast.literal_eval(texts.get(text, text).removeprefix("f")).split())


def is_look_up(statement: str, stable: set[str]) -> bool:
    called = r"\w+\([\w$., ]*\)"
    form = rf"SELECT (\* FROM )?{called}( AS \w+ LEFT JOIN LATERAL {called} AS \w+ ON true)?"
    names = set(re.findall(r"(\w+)\(", statement))
    return bool(re.fullmatch(rf"{form}( LIMIT \S+)?", statement)) and names <= stable


@pytest.mark.parametrize(
    ("statement", "is_one"),
    [
        ("SELECT * FROM session_of($1)", True),
        ("SELECT session_of($1)", True),
        ("SELECT * FROM sessions WHERE id = $1", False),
        ("SELECT set_config('app.platform', 'on', false)", False),
        ("SELECT * FROM session_of($1); SET app.platform = 'on'", False),
        ("SELECT * FROM session_of($1), set_config('app.platform', 'on', false)", False),
    ],
)
def test_S32_the_rule_of_look_ups_finds_what_it_is_for(statement: str, is_one: bool) -> None:
    assert is_look_up(statement, {"session_of"}) is is_one


def test_S68_nothing_turns_data_into_code() -> None:
    banned = {"eval", "exec", "compile", "__import__"}
    modules = {"pickle", "marshal", "shelve", "dill", "yaml"}
    found = []
    for path, _lines, tree in trees():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id=name)) if name in banned:
                    found.append(f"{path}:{node.lineno} {name}")
                case ast.Import(names=names) if modules & {one.name.split(".")[0] for one in names}:
                    found.append(f"{path}:{node.lineno}")
                case ast.ImportFrom(module=str(module)) if module.split(".")[0] in modules:
                    found.append(f"{path}:{node.lineno} {module}")

    assert found == []


def test_S69_labels_of_our_metrics_have_few_values() -> None:
    for package in (control, ingest, shared):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)

    names = {
        label
        for collector in REGISTRY._collector_to_names
        for label in getattr(collector, "_labelnames", ())
    }

    assert names
    assert names <= LABELS
