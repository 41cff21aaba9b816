"""`telemetryflow modules` and `new-module`: the map of bounded contexts, and one more of them."""

import re
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

import control
from control.app import EVENTS, ROUTES
from control.contexts import CONTEXTS
from control.scaffold.generator import new_module as write_module
from shared.errors import Invalid
from shared.messaging.commands import Command
from shared.settings import Settings

WIDTH: Final = 140


def modules(_settings: Settings, _options: Namespace) -> int:
    """Print every context, and how much of it there is."""
    routes = Counter(_context(route.handler) for module in ROUTES for route in module.found)
    commands = Counter(_context(command) for command in _commands())
    events = Counter(_context(event) for event in EVENTS)
    table = Table(box=None, pad_edge=False)
    for heading in ("number", "name", "what it is for", "depends on", "state"):
        table.add_column(heading, justify="right" if heading == "number" else "left")
    for heading in ("routes", "commands", "events"):
        table.add_column(heading, justify="right")
    for context in CONTEXTS:
        table.add_row(
            str(context.number),
            context.name,
            context.sentence,
            ", ".join(map(str, context.depends_on)) or "-",
            "built" if context.is_built else "planned",
            *(str(found[context.name]) for found in (routes, commands, events)),
        )
    Console(highlight=False, width=WIDTH).print(table)
    return 0


def _context(part: Any) -> str:
    """The context that a function or a class stands in; of what stands elsewhere, its package."""
    module: str = part.__module__
    return module.removeprefix("control.").partition(".")[0]


def _commands() -> set[type[Any]]:
    """The commands that tables of handlers name; what several have in common is none of them."""
    named = [
        getattr(module, name, None)
        for path, module in sys.modules.items()
        if re.fullmatch(r"control\.\w+\.commands(\.\w+)?", path) and hasattr(module, "handlers")
        for name in module.handlers.__code__.co_names
    ]
    return {one for one in named if isinstance(one, type) and issubclass(one, Command)}


def new_module(_settings: Settings, options: Namespace) -> int:
    """Write a context and say what to do next."""
    root = Path(control.__file__ or "").parents[1]
    if not (root / "tests" / "control").is_dir():
        raise Invalid(f"{root} is no source tree: run this where the product is developed")
    name = options.name
    for path in write_module(root, options.number, name, known=CONTEXTS):
        print(f"  {path}")
    print(
        f"""
{name} is wired in and works. What to do next:
  1. say what it is for, in control/contexts.py and control/{name}/__init__.py, and name the
     contexts that it depends on
  2. make the example your own: domain.py and events.py first, then the migration, repository.py,
     commands.py, queries.py and api.py
  3. decide who may what, in control/core/domain/permissions.py
  4. run: pytest tests/unit/control/{name} tests/integration/control/{name} tests/test_source.py
  5. run: telemetryflow migrate, and start the API again
The migration may be edited until it was applied where data matters; after that, add another."""
    )
    return 0
