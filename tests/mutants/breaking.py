"""How a mutant is made: one piece of text replaced in a copy of the source, and tests run on it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("ingest", "shared", "control", "tests", "benchmarks", "pyproject.toml")
RUN_SECONDS_MAX: Final = 120
TESTS_FAILED: Final = 1
# All others that are installed take longer to load than most of these tests.
PLUGINS: Final = ("pytest_asyncio.plugin", "pytest_timeout")


@dataclass(frozen=True)
class Mutant:
    """A broken variant: what it breaks, where, and who has to notice."""

    name: str
    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]


def copy_of_source(folder: Path) -> Path:
    """The source in *folder*, free to be broken."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("corpus", "node_modules", "__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def outcome(folder: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The tests, run on the source in *folder*."""
    # Neither this run's coverage and workers nor the checkout's own packages.
    env = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    env |= {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            *(part for name in ("no:cacheprovider", *PLUGINS) for part in ("-p", name)),
            "--timeout=20",
            # A signal may strike where there is no line number, which pytest cannot report; a
            # thread ends the run, with the exit code of a failed test.
            "--timeout-method=thread",
            *tests,
        ],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )


def outcome_of_mutant(folder: Path, mutant: Mutant) -> subprocess.CompletedProcess[str]:
    """Breaks the copy in *folder*, runs the mutant's tests on it, and mends it again."""
    path = folder / mutant.file
    source = path.read_text()
    assert source.count(mutant.text) == 1, f"{mutant.name}: bring the mutant up to date"
    path.write_text(source.replace(mutant.text, mutant.replacement))
    try:
        return outcome(folder, mutant.tests)
    finally:
        path.write_text(source)
