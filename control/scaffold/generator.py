"""Writes a new bounded context, with an example that works, and wires it into the product.

All files are prepared before the first is written: what is refused leaves nothing behind.
"""

import builtins
import keyword
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from control.contexts import Context
from shared.errors import Conflict, Invalid

MARKER: Final = "# new contexts go above this line"
# The longest name whose lines of code fit the house's line length.
NAME_CHARACTERS_MAX: Final = 16
NUMBER_MAX: Final = 9_900
_TEMPLATES: Final = Path(__file__).parent / "templates"
_MODULES: Final = (
    *("__init__", "api", "commands", "queries", "subscribers"),
    *("domain", "events", "repository"),
)
# Template -> what it becomes.
_TARGETS: Final = {
    **{f"{module}.py": f"control/<<name>>/{module}.py" for module in _MODULES},
    "migration.sql": "control/migrations/<<migration>>_<<name>>.sql",
    "test_domain.py": "tests/unit/control/<<name>>/test_domain.py",
    "test_api.py": "tests/integration/control/<<name>>/test_api.py",
}
# File, the place that its marker names -> the lines that go above the marker.
_INSERTIONS: Final = {
    ("control/contexts.py", "contexts"): (
        'Context(<<number>>, "<<name>>", "<<Texts>> of a tenant.", (100,)),',
    ),
    ("control/app.py", "routes"): ("<<name>>_api.routes,",),
    ("control/app.py", "events"): ("*<<name>>_events.EVENTS,",),
    ("control/app.py", "commands"): (
        "<<name>>_commands.handlers(",
        "    UnitOfWork(database, <<Things>>),",
        "),",
    ),
    ("control/app.py", "subscribers"): ("<<name>>_subscribers.subscribers(),",),
    ("control/audit/actions.py", "actions"): (
        '"<<Thing>>Created": ("<<thing>>", "created"),',
        '"<<Thing>>Updated": ("<<thing>>", "updated"),',
        '"<<Thing>>Deleted": ("<<thing>>", "deleted"),',
    ),
    ("control/core/domain/permissions.py", "areas"): ('"<<area>>": ("read", "write", "delete"),',),
    # Administrators have all areas; the demo has what developers have.
    ("control/core/domain/permissions.py", "developers"): ('"<<area>>": "read write",',),
    ("control/core/domain/permissions.py", "seen by all"): ('"<<area>>",',),
}
_IMPORTS: Final = (
    "from control.<<name>> import api as <<name>>_api\n",
    "from control.<<name>> import commands as <<name>>_commands\n",
    "from control.<<name>> import events as <<name>>_events\n",
    "from control.<<name>> import subscribers as <<name>>_subscribers\n",
    "from control.<<name>>.repository import <<Things>>\n",
)


def new_module(root: Path, number: int, name: str, *, known: Sequence[Context]) -> list[Path]:
    """Write the context and wire it in; what was written and changed, relative to *root*.

    Invalid for a name or a number that cannot be one, Conflict for what is taken.
    """
    _check_number(number, known)
    words = _words(number, name, _next_migration(root))
    _check_name(root, words, known)
    files = {
        Path(_filled(target, words)): _filled(_template(source), words)
        for source, target in _TARGETS.items()
    }
    if existing := [str(path) for path in files if (root / path).exists()]:
        raise Conflict(f"{existing[0]} exists already")
    for (name_of_file, place), lines in _INSERTIONS.items():
        path = Path(name_of_file)
        text = files[path] if path in files else (root / path).read_text()
        files[path] = _inserted(text, path, place, [_filled(line, words) for line in lines])
    app = Path("control/app.py")
    for line in _IMPORTS:
        files[app] = _imported(files[app], _filled(line, words))
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return list(files)


def _check_number(number: int, known: Sequence[Context]) -> None:
    if number % 100 or not 100 <= number <= NUMBER_MAX:
        raise Invalid(f"{number}: give a multiple of 100, at most {NUMBER_MAX}")
    for context in known:
        if context.number == number:
            raise Conflict(f"the number {number} is taken: it is {context.name}")


def _check_name(root: Path, words: dict[str, str], known: Sequence[Context]) -> None:
    name = words["name"]
    if name in (context.name for context in known) or (
        (root / "control" / name).exists() or (root / "control" / f"{name}.py").exists()
    ):
        raise Conflict(f"the name {name} is taken")
    migrations = "".join(path.read_text() for path in _migrations(root))
    permissions = (root / "control/core/domain/permissions.py").read_text()
    if f"CREATE TABLE {words['things']} " in migrations or any(
        f'"{area}": (' in permissions for area in (words["area"], words["path"])
    ):
        raise Conflict(f"another context has {words['texts']} already: choose another name")
    spoken = {word for source in _TARGETS for word in re.findall(r"\w+", _template(source))}
    if {name, words["thing"], words["things"], words["Thing"], words["Things"]} & spoken or (
        keyword.iskeyword(name) or hasattr(builtins, name)
    ):
        raise Invalid(f"{name} means something else in every context: choose two words")


def _words(number: int, name: str, migration: int) -> dict[str, str]:
    """What the placeholders of templates stand for, such as <<Things>>: NewFeatures."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > NAME_CHARACTERS_MAX:
        raise Invalid(
            f"{name}: give a name in snake_case of at most {NAME_CHARACTERS_MAX} characters, "
            "such as new_feature"
        )
    thing = _singular(name)
    things = _plural(thing)
    texts = things.replace("_", " ")
    return {
        "number": str(number),
        "migration": f"{migration:04}",
        "name": name,
        "thing": thing,
        "things": things,
        "Thing": thing.title().replace("_", ""),
        "Things": things.title().replace("_", ""),
        "text": thing.replace("_", " "),
        "texts": texts,
        "Texts": texts.capitalize(),
        "area": thing.replace("_", "-"),
        "path": things.replace("_", "-"),
    }


def _singular(name: str) -> str:
    if name.endswith("ies"):
        return f"{name.removesuffix('ies')}y"
    return name if name.endswith(("ss", "us", "is")) else name.removesuffix("s")


def _plural(thing: str) -> str:
    if re.search(r"[^aeiou]y$", thing):
        return f"{thing.removesuffix('y')}ies"
    return f"{thing}es" if thing.endswith(("s", "x", "ch", "sh")) else f"{thing}s"


def _migrations(root: Path) -> Iterator[Path]:
    return (root / "control/migrations").glob("[0-9][0-9][0-9][0-9]_*.sql")


def _next_migration(root: Path) -> int:
    return max((int(path.name[:4]) for path in _migrations(root)), default=0) + 1


def _template(source: str) -> str:
    return (_TEMPLATES / f"{source}.template").read_text()


def _filled(text: str, words: dict[str, str]) -> str:
    text = re.sub(r"<<(\w+)>>", lambda match: words[match[1]], text)
    # Where the context stands among others depends on its name.
    return re.sub(
        r"(?:^from control\.[^(\n]+\n)+",
        lambda match: "".join(sorted(match[0].splitlines(keepends=True))),
        text,
        flags=re.MULTILINE,
    )


def _inserted(text: str, path: Path, place: str, lines: Sequence[str]) -> str:
    marker = f"{MARKER}: {place}\n"
    if text.count(marker) != 1:
        raise Conflict(f"{path} needs the line '{marker.strip()}' once: put it back")
    at = text.rindex("\n", 0, text.index(marker)) + 1
    indent = text[at : text.index(marker)]
    return text[:at] + "".join(f"{indent}{line}\n" for line in lines) + text[at:]


def _imported(text: str, line: str) -> str:
    """*text* with the import in its place; imports are sorted."""
    after = next(
        match.start()
        for match in re.finditer(r"^from control\..*\n|^from shared.*\n", text, re.MULTILINE)
        if match[0] > line
    )
    return text[:after] + line + text[after:]
