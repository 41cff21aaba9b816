"""Writes docs/otlp-contract.md: python -m tests.contract.table.

Made of `checks.py`, of the ids in the names of tests, and of the outcomes that
`python -m tests.contract --save` kept of other endpoints.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.contract.checks import ALSO, CHECKS

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = ROOT / "docs" / "otlp-contract.md"
OUTCOMES: Final = Path(__file__).parent / "outcomes"
# In the order of the columns.
COMPARED: Final = ("ours-ngh2", "ours-grpcio", "collector", "rotel")
_ID: Final = re.compile(r"C\d{3}")
_TEST: Final = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
_HEAD: Final = """# The OTLP contract

What OTLP asks of a receiver, what this one does, and the tests that prove it. Written by
`make contract-table` from the tests; a test fails when it is out of date.

The suite in `tests/contract/otlp` runs over three signals and four ways to send (gRPC on ngh2 and
on grpcio, HTTP with protobuf and with JSON). It looks at the status, the headers, the decoded body,
and at what arrived: the rows in the log, and for each way and signal in ClickHouse.

It runs against any endpoint, too, and then asks only what the specification says with MUST or
SHOULD, or takes over from proto3's encoding and JSON mapping:

```sh
python -m tests.contract --grpc localhost:4317 --http localhost:4318 [--clickhouse URL]
```
"""
_CHECKS: Final = """
## Checks

"-" stands where OTLP says nothing: those are promises of ours.

| check | OTLP says | we do | tests | result |
|---|---|---|---|---|
"""
_COMPARISON: Final = """
## Compared with other receivers

The same tests, asked of each endpoint over gRPC and HTTP: how many cases hold, of how many.
Rows were looked at in ClickHouse where the column says so. What failed is told below the table.
"n. a.": not asked, for the endpoint names no limit. Undecodable requests over gRPC may be answered
with any code that is not retried, because OTLP recommends one and allows others.

"""


def files_of_checks() -> dict[str, list[str]]:
    """For each check the files with tests of it."""
    found: dict[str, list[str]] = {name: list(ALSO.get(name, ())) for name in CHECKS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tests = " ".join(_TEST.findall(path.read_text()))
        for name in sorted(set(_ID.findall(tests))):
            found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return found


def table() -> str:
    """The whole page."""
    lines = [_HEAD, _CHECKS.rstrip("\n")]
    for name, files in sorted(files_of_checks().items()):
        check = CHECKS[name]
        we = f"{check.we}. *Changed:* {check.changed}" if check.changed else check.we
        result = "holds, changed" if check.changed else "holds"
        lines.append(f"| {name} | {check.says} | {we} | {_named(files)} | {result} |")
    return "\n".join([*lines, _comparison()])


def _named(files: Sequence[str]) -> str:
    return ", ".join(f"[{Path(file).stem.removeprefix('test_')}](../{file})" for file in files)


def _comparison() -> str:
    kept = {name: json.loads((OUTCOMES / f"{name}.json").read_text()) for name in COMPARED}
    titles = [
        one["name"] + (", rows looked at" if one["rows"] else ", answers only")
        for one in kept.values()
    ]
    lines = [
        _COMPARISON + "| test | word | " + " | ".join(titles) + " |",
        "|---|---|" + "---|" * len(titles),
    ]
    for test, first in sorted(kept[COMPARED[0]]["tests"].items()):
        cells = [_cell(one["tests"].get(test)) for one in kept.values()]
        lines.append(f"| {_sentence(test)} | {first['word']} | " + " | ".join(cells) + " |")
    for one in kept.values():
        failed = {name: test["failed"] for name, test in one["tests"].items() if test["failed"]}
        if failed:
            lines += ["", f"### What {one['name']} answered", ""]
            lines += [
                f"- {_sentence(test)}: {_answers(how)}" for test, how in sorted(failed.items())
            ]
    return "\n".join(lines) + "\n"


def _cell(test: dict[str, Any] | None) -> str:
    if test is None or not (test["passed"] or test["failed"]):
        return "n. a."
    total = test["passed"] + len(test["failed"])
    return f"{test['passed']}/{total}" if test["failed"] else f"all {total}"


def _sentence(test: str) -> str:
    ids = _ID.findall(test)
    words = [word for word in test.removeprefix("test_").split("_") if not _ID.fullmatch(word)]
    return f"{' '.join(ids)} {' '.join(words)}"


def _answers(how: dict[str, str]) -> str:
    """The different answers, each with one case that got it."""
    seen: dict[str, str] = {}
    for case, answer in how.items():
        seen.setdefault(answer.replace("|", "\\|"), case)
    told = [f"`{answer}`" + (f" ({case})" if case else "") for answer, case in seen.items()]
    return "; ".join(told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "")


if __name__ == "__main__":
    TABLE.write_text(table())
