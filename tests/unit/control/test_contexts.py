"""The map of contexts, held against the code."""

import ast
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest

from control.app import EVENTS, ROUTES
from control.auth.commands import accounts, sessions, sign_in
from control.cli.modules import WIDTH, modules
from control.contexts import CONTEXTS, Context
from control.core.commands import people, roles, tenancy
from shared.settings import Settings

CONTROL: Final = Path(__file__).parents[3] / "control"
OF_NUMBER: Final = {context.number: context for context in CONTEXTS}
BUILT: Final = [context for context in CONTEXTS if context.is_built]
# Who registers with auth gets an organization of core: the one edge against the order.
AGAINST_THE_ORDER: Final = {("core", "auth")}


def within_reach(context: Context) -> set[str]:
    """What a context depends on, directly or through others."""
    found = set()
    for number in context.depends_on:
        found |= {OF_NUMBER[number].name, *within_reach(OF_NUMBER[number])}
    return found


def imported(context: Context) -> Iterator[str]:
    """The modules of the control plane that a context imports."""
    for path in sorted((CONTROL / context.name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("control."):
                yield from (f"{node.module}.{name.name}" for name in node.names)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert modules(Settings(), Namespace()) == 0
    return capsys.readouterr().out.splitlines()


def test_numbers_are_hundreds_in_order_and_names_differ() -> None:
    numbers = [context.number for context in CONTEXTS]

    assert numbers == sorted(set(numbers))
    assert not [number for number in numbers if number % 100]
    assert len({context.name for context in CONTEXTS}) == len(CONTEXTS)


def test_a_context_depends_only_on_those_before_it() -> None:
    for context in CONTEXTS:
        assert all(
            number in OF_NUMBER and number < context.number for number in context.depends_on
        ), context.name


@pytest.mark.parametrize("context", BUILT, ids=lambda context: context.name)
def test_a_context_listens_only_to_those_that_it_depends_on(context: Context) -> None:
    others = {name.split(".")[1] for name in imported(context)} - {context.name}

    strangers = others - within_reach(context)

    assert {(context.name, other) for other in strangers} <= AGAINST_THE_ORDER


@pytest.mark.parametrize("context", BUILT, ids=lambda context: context.name)
def test_a_context_says_first_who_it_is(context: Context) -> None:
    text = ast.get_docstring(ast.parse((CONTROL / context.name / "__init__.py").read_text()))

    assert (text or "").startswith(f"{context.number} {context.name}: ")


def test_every_context_of_the_code_is_on_the_map() -> None:
    folders = {path.parent.name for path in CONTROL.glob("*/api*")}

    assert folders == {context.name for context in BUILT}


def test_the_table_shows_every_context_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    _heading, *lines = printed(capsys)

    assert len(lines) == len(CONTEXTS)
    for context, line in zip(CONTEXTS, lines, strict=True):
        assert len(line) <= WIDTH
        assert line.split()[:2] == [str(context.number), context.name]
        assert context.sentence in line
        assert ("  built " if context.is_built else "  planned ") in line


def test_the_numbers_of_the_table_are_those_of_the_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unopened = cast(Any, None)
    commands = {
        "core": [module.handlers(unopened) for module in (people, roles, tenancy)],
        "auth": [module.handlers(unopened) for module in (accounts, sessions, sign_in)],
    }
    routes = [route.handler.__module__ for module in ROUTES for route in module.found]
    events = [event.__module__ for event in EVENTS]

    shown = {line.split()[1]: line.split()[-3:] for line in printed(capsys)}

    for name, tables in commands.items():
        assert shown[name] == [
            str(sum(module.startswith(f"control.{name}.") for module in routes)),
            str(sum(map(len, tables))),
            str(sum(module.startswith(f"control.{name}.") for module in events)),
        ]
