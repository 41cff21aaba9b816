"""Rules of the source: linters, types, import directions, sizes, dead code, generated files."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import documented

ROOT = Path(__file__).parents[1]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
PACKAGES = ("control", "ingest", "shared", "tests", "benchmarks")
BIN = Path(sys.executable).parent
# Fields of answers and events: clients and other programs read them.
READ_ELSEWHERE = re.compile(
    r"(/api|/queries|/events|/administration)(/\w+)?\.py:\d+: unused variable '[a-z0-9_]+' "
)


def _sources(*endings: str) -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in endings and "node_modules" not in path.parts:
                yield path


def _run(*command: str) -> None:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_ruff_finds_nothing() -> None:
    _run("ruff", "check", ".")


def test_everything_is_formatted() -> None:
    _run("ruff", "format", "--check", ".")


@pytest.mark.timeout(300)
def test_mypy_strict_finds_nothing() -> None:
    _run("mypy")


def test_imports_keep_their_direction() -> None:
    _run("lint-imports", "--no-cache")


def test_there_is_no_dead_code() -> None:
    done = subprocess.run(
        [str(BIN / "vulture")], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    dead = [line for line in done.stdout.splitlines() if not READ_ELSEWHERE.search(line)]
    assert not dead, "\n".join(dead)


def test_no_file_is_longer_than_the_limit() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in _sources(".py", ".pyx", ".pxd")
        if (lines := path.read_text().count("\n")) > FILE_LINES_MAX
    }

    assert not long


def test_no_python_function_is_longer_than_the_limit() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in _sources(".py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]

    assert not long


def test_no_cython_function_is_longer_than_the_limit() -> None:
    long = []
    for path in _sources(".pyx", ".pxd"):
        lines = path.read_text().splitlines()
        starts = [
            number
            for number, line in enumerate(lines, 1)
            if re.match(r"\s*(cdef|cpdef|def)\s.*(\(|\).*:)$", line)
        ]
        ends = [*starts[1:], len(lines)] if starts else []
        for start, end in zip(starts, ends, strict=True):
            body = [line for line in lines[start - 1 : end - 1] if line.strip()]
            if len(body) > FUNCTION_LINES_MAX:
                long.append(f"{path.relative_to(ROOT)}:{start}")

    assert not long


def test_generated_code_is_that_of_its_source(tmp_path: Path) -> None:
    source = "proto/telemetryflow/directory/v1"
    out = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]

    _run("python", "-m", "grpc_tools.protoc", f"-I{source}", *out, "directory.proto")

    for name in ("directory_pb2.py", "directory_pb2.pyi"):
        held = (ROOT / "shared" / "directory" / name).read_text()
        assert (tmp_path / name).read_text() == held, "run: make proto"


def test_env_example_names_every_setting() -> None:
    expected = env_example()

    assert (ROOT / ".env.example").read_text() == expected, "run: python tests/test_source.py"


def test_the_documentation_of_settings_is_current() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()

    assert settings_table() in text, "run: python tests/test_source.py"


def test_lock_files_pin_with_hashes_and_name_no_address() -> None:
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        assert "://" not in text, path.name
        assert "--index-url" not in text, path.name
        for requirement in re.split(r"\n(?=\w)", text):
            assert "--hash=sha256:" in requirement, requirement


def env_example() -> str:
    """Every setting with its default, commented out."""
    lines = ["# Every setting with its default. An empty value counts as unset.", ""]
    for name, default, text in documented():
        lines += [f"# {text}", f"#{name}={default}", ""]
    return "\n".join(lines)


def settings_table() -> str:
    """Every setting as a table in Markdown."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | `{default}` | {text} |" for name, default, text in documented()]
    return "\n".join(line.replace("| `` |", "| |") for line in lines)


if __name__ == "__main__":
    (ROOT / ".env.example").write_text(env_example())
    page = ROOT / "docs" / "configuration.md"
    before, _table, after = re.split(r"(\| variable .*?\n(?:\|.*\n)*)", page.read_text())
    page.write_text(f"{before}{settings_table()}\n{after}")
