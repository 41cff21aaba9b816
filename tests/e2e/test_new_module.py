"""`telemetryflow new-module`: what it writes passes every rule of the house as it stands."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from control.contexts import CONTEXTS
from control.scaffold.generator import MARKER, new_module
from shared.errors import Conflict, Invalid, TelemetryFlowError
from tests.e2e.processes import ROOT

BIN: Final = Path(sys.executable).parent
COPIED: Final = ("control", "ingest", "shared", "tests", "pyproject.toml")
MYPY_CACHE: Final = ".mypy_cache"
STEP_SECONDS_MAX: Final = 240
TESTS: Final = ("tests/unit/control/new_feature", "tests/integration/control/new_feature")
NEW: Final = ("control/new_feature", *TESTS)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The source tree, with the compiled codec."""
    ignored = shutil.ignore_patterns("__pycache__", "node_modules", "corpus", ".hypothesis")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    # What mypy found out about the files that are the same here.
    if (ROOT / MYPY_CACHE).is_dir():
        shutil.copytree(ROOT / MYPY_CACHE, tmp_path / MYPY_CACHE)
    return tmp_path


def run(folder: Path, *command: str) -> tuple[int, str]:
    """Exit code and output of a tool, run in *folder*."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=STEP_SECONDS_MAX,
    )
    return done.returncode, done.stdout


def telemetryflow(folder: Path, *arguments: str) -> tuple[int, str]:
    """The command line of the source in *folder*, not of what is installed."""
    return run(
        folder,
        "python",
        "-c",
        "import sys; from control.cli import main; sys.exit(main())",
        *arguments,
    )


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


@pytest.mark.timeout(3 * STEP_SECONDS_MAX)
def test_a_new_module_passes_linters_types_contracts_and_its_own_tests(copy: Path) -> None:
    code, told = telemetryflow(copy, "new-module", "1600", "new_feature")

    assert code == 0, told
    assert "control/new_feature/api.py" in told
    assert "What to do next" in told
    for command in (
        ("ruff", "check", "control", *TESTS),
        ("ruff", "format", "--check", "control", *TESTS),
        ("mypy", *NEW),
        ("lint-imports", "--no-cache"),
        ("pytest", "-q", *TESTS, "tests/unit/control/test_contexts.py"),
    ):
        code, output = run(copy, *command)
        assert code == 0, f"{command}\n{output}"
    _code, table = telemetryflow(copy, "modules")
    assert table.splitlines()[-1].split()[-4:] == ["built", "5", "3", "3"]
    again, refused = telemetryflow(copy, "new-module", "1600", "other_feature")
    assert (again, refused) == (1, "telemetryflow: the number 1600 is taken: it is new_feature\n")


@pytest.mark.parametrize(
    ("name", "singular", "plural"),
    [
        ("bq", "Bq", "bqs"),
        ("escalation_queue", "EscalationQueue", "escalation_queues"),
        ("backups", "Backup", "backups"),
        ("policies", "Policy", "policies"),
        ("data_address", "DataAddress", "data_addresses"),
    ],
)
def test_names_of_every_kind_and_length_are_written_in_the_houses_style(
    copy: Path, name: str, singular: str, plural: str
) -> None:
    written = new_module(copy, 1600, name, known=CONTEXTS)

    assert f"class {singular}(Aggregate)" in (copy / "control" / name / "domain.py").read_text()
    migration = next(path for path in written if path.suffix == ".sql")
    assert f"CREATE TABLE {plural} (" in (copy / migration).read_text()
    sources = [str(path) for path in written if path.suffix == ".py"]
    for command in (("ruff", "check"), ("ruff", "format", "--check")):
        code, output = run(copy, *command, *sources)
        assert code == 0, output


@pytest.mark.parametrize(
    ("number", "name", "kind", "message"),
    [
        (100, "new_feature", Conflict, "number 100 is taken: it is core"),
        (1650, "new_feature", Invalid, "multiple of 100"),
        (-100, "new_feature", Invalid, "multiple of 100"),
        (1600, "alerts", Conflict, "name alerts is taken"),
        (1600, "app", Conflict, "name app is taken"),
        (1600, "metrics", Conflict, "another context has metrics already"),
        (1600, "session", Conflict, "another context has sessions already"),
        (1600, "NewFeature", Invalid, "snake_case"),
        (1600, "new-feature", Invalid, "snake_case"),
        (1600, "new__feature", Invalid, "snake_case"),
        (1600, "../escape", Invalid, "snake_case"),
        (1600, "a" * 17, Invalid, "at most 16 characters"),
        (1600, "class", Invalid, "choose two words"),
        (1600, "event", Invalid, "choose two words"),
    ],
)
def test_what_cannot_be_a_module_is_refused_and_nothing_is_written(
    copy: Path, number: int, name: str, kind: type[TelemetryFlowError], message: str
) -> None:
    before = contents(copy)

    with pytest.raises(kind, match=message):
        new_module(copy, number, name, known=CONTEXTS)

    assert contents(copy) == before


def test_a_place_that_is_no_longer_marked_is_named_and_nothing_is_written(copy: Path) -> None:
    app = copy / "control" / "app.py"
    app.write_text(app.read_text().replace(f"{MARKER}: routes", ""))
    before = contents(copy)

    with pytest.raises(
        Conflict, match=r"control/app\.py needs the line '# new contexts .* routes'"
    ):
        new_module(copy, 1600, "new_feature", known=CONTEXTS)

    assert contents(copy) == before
