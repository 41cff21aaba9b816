"""Fuzzes under AddressSanitizer: `python tests/fuzz/run.py --seconds 15 [TARGET ...]`.

The codec (traces, logs, metrics, json) and the receivers (http1, http2).

Builds the extensions with clang into build/fuzz (never over those that the product loads), then
lets libFuzzer (through atheris) mutate the corpus for so many seconds per target. Prints one line
per target. Exit status: 0 nothing found, 1 a finding (its input is kept in build/fuzz/findings),
2 clang or atheris is missing or the build failed.
"""

import argparse
import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CORPUS: Final = ROOT / "tests" / "fuzz" / "corpus"
BUILD: Final = ROOT / "build" / "fuzz"
TREE: Final = BUILD / "tree"
FINDINGS: Final = BUILD / "findings"

EDGE_TARGETS: Final = ("http1", "http2")
TARGETS: Final = ("traces", "logs", "metrics", "json", *EDGE_TARGETS)
SANITIZE: Final = "address,fuzzer-no-link"
DEFINES: Final = "-DTELEMETRYFLOW_NO_SLACK"
BUILD_SECONDS_MAX: Final = 600
SLACK_SECONDS: Final = 120
UNIT_TESTS_SECONDS_MAX: Final = 1_800
# They limit the address space, of which the sanitiser needs terabytes, or look at the product's own
# build.
NOT_SANITISED: Final = ("test_encoder_memory", "test_hardening")
INPUT_BYTES_MAX: Final = 4_096
INPUT_SECONDS_MAX: Final = 10
MEMORY_MEGABYTES_MAX: Final = 2_048
CORPUS_BYTES_MAX: Final = 330_000  # of one target; six of them stay below 2 MiB
CORPUS_FILES_MAX: Final = 300
COMPILED: Final = (".pyx", ".pxd", ".h")
COPIED: Final = (*COMPILED, ".py", ".sql")


class NotBuiltError(Exception):
    """The sanitised extensions could not be built; the text says why."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=15, help="for each target (default 15)")
    parser.add_argument("--keep", action="store_true", help="add what was found to the corpus")
    parser.add_argument(
        "--unit-tests", action="store_true", help="instead: the codec's tests, on the same build"
    )
    chosen = parser.parse_args(arguments)
    targets = chosen.targets or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"unknown target {', '.join(sorted(unknown))}")
    try:
        # The edges are Python alone.
        preload = build() if set(targets) - set(EDGE_TARGETS) else Path()
    except NotBuiltError as error:
        print(error, file=sys.stderr)
        return 2
    if chosen.unit_tests:
        return unit_tests(preload)
    # A target keeps one core busy.
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        passed = list(cores.map(lambda one: fuzz(one, preload, chosen.seconds), targets))
    found = [target for target, has_passed in zip(targets, passed, strict=True) if not has_passed]
    if chosen.keep and not found:
        for target in targets:
            keep(target, preload)
    return 1 if found else 0


def build() -> Path:
    """Builds what changed since the last time; the library to preload."""
    if shutil.which("clang") is None:
        raise NotBuiltError("clang is missing: apt-get install clang")
    spec = find_spec("atheris")
    if spec is None or spec.origin is None:
        raise NotBuiltError("atheris is missing: pip install atheris")
    stamp = BUILD / "stamp"
    state = copy_sources()
    if not stamp.exists() or stamp.read_text() != state:
        compile_extensions()
        stamp.write_text(state)
    return Path(spec.origin).parents[1] / "asan_with_fuzzer.so"


def copy_sources() -> str:
    """Copies the packages that the targets import; a digest of what the build depends on."""
    digest = hashlib.sha256(f"{SANITIZE} {DEFINES}".encode())
    TREE.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "setup.py", TREE / "setup.py")
    digest.update((TREE / "setup.py").read_bytes())
    for package in ("ingest", "shared"):
        for source in sorted((ROOT / package).rglob("*")):
            if source.suffix in COPIED:
                copy = TREE / source.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
                if source.suffix in COMPILED:
                    digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def compile_extensions() -> None:
    for old in TREE.rglob("*.so"):
        old.unlink()
    environment = {
        **os.environ,
        "CC": "clang",
        "CXX": "clang++",
        "LDSHARED": "clang -shared",
        "LDCXXSHARED": "clang++ -shared",
        "CFLAGS": DEFINES,
        "TELEMETRYFLOW_SANITIZE": SANITIZE,
    }
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace", "--force", "--parallel=2"],
        cwd=TREE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise NotBuiltError(f"the build failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def sanitised(preload: Path) -> dict[str, str]:
    """The environment in which the sanitised extensions can be loaded."""
    return {
        "LD_PRELOAD": str(preload),
        "PYTHONMALLOC": "malloc",  # every bytes object gets a red zone of its own
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    }


def unit_tests(preload: Path) -> int:
    """Runs the codec's own tests under the sanitiser, but those of limited address space."""
    line = [
        *(sys.executable, "-P", "-m", "pytest", "tests/unit/ingest/codec", "-q"),
        *("-o", f"pythonpath={TREE} {ROOT}", "-p", "no:cacheprovider", "--timeout=600"),
        *(f"--ignore=tests/unit/ingest/codec/{name}.py" for name in NOT_SANITISED),
    ]
    environment = {**os.environ, **sanitised(preload), "HYPOTHESIS_PROFILE": "sanitised"}
    done = subprocess.run(
        line, cwd=ROOT, env=environment, timeout=UNIT_TESTS_SECONDS_MAX, check=False
    )
    return done.returncode


def command(target: str, preload: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """How to start `drive.py`, and in which environment."""
    # Of the edges only Python is instrumented: the sanitiser would slow it down for nothing.
    environment = {
        **os.environ,
        **({} if target in EDGE_TARGETS else sanitised(preload)),
        "PYTHONPATH": str(ROOT) if target in EDGE_TARGETS else f"{TREE}{os.pathsep}{ROOT}",
        "FUZZ_FINDINGS": f"{FINDINGS}/{target}-",
    }
    drive = ROOT / "tests" / "fuzz" / "drive.py"
    launcher = BUILD / f"{target}.sh"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{drive}" "$0" {target} "$@"\n')
    launcher.chmod(0o755)
    return [str(launcher), *arguments], environment


def fuzz(target: str, preload: Path, seconds: int) -> bool:
    """Fuzzes one target and prints its line; False when there is a finding."""
    work = BUILD / "corpus" / target
    for directory in (work, FINDINGS, CORPUS / target):
        directory.mkdir(parents=True, exist_ok=True)
    line, environment = command(
        target,
        preload,
        str(work),
        str(CORPUS / target),
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MEGABYTES_MAX}",
        f"-artifact_prefix={FINDINGS}/{target}-",
        f"-dict={dictionary(target)}",
        "-print_final_stats=1",
    )
    log = BUILD / f"{target}.log"
    with log.open("w") as output:
        done = subprocess.run(
            line,
            cwd=BUILD,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=seconds + SLACK_SECONDS,
            check=False,
        )
    text = log.read_text(errors="replace")
    print(summary(target, text, found=done.returncode != 0), flush=True)
    if done.returncode != 0:
        print(text[-6000:], file=sys.stderr)
    return done.returncode == 0


def summary(target: str, log: str, *, found: bool) -> str:
    """One line from what libFuzzer printed: executions, edges and features covered."""
    executions = re.findall(r"stat::number_of_executed_units:\s*(\d+)", log)
    coverage = re.findall(r"cov: (\d+) ft: (\d+)", log)
    edges, features = coverage[-1] if coverage else ("?", "?")
    kept = re.findall(r"Test unit written to (\S+)", log)
    return (
        f"{target:8} {executions[-1] if executions else '?':>9} executions, "
        f"{edges} edges, {features} features, "
        + (f"FINDING {' '.join(kept) or 'see the log'}" if found else "nothing found")
    )


def dictionary(target: str) -> Path:
    """The words worth trying: a file of ours, or the names of the JSON fields, or what parts
    requests."""
    kept = Path(__file__).with_name(f"{target}.dict")
    if kept.exists():
        return kept
    if target == "json":
        # By its path: the package around it loads the product's extensions, which need not exist.
        schema = runpy.run_path(str(ROOT / "ingest" / "codec" / "json_schema.py"))
        names = {field.name for fields in schema["MESSAGES"].values() for field in fields}
        words = [f'\\"{name}\\":' for name in sorted(names)]
        words += [*"{}[],", '\\"\\"', "null", "true", "\\\\ud800", "1e3", '\\"NaN\\"', "[{", "}]"]
    else:
        words = ["\\xfe\\xed\\xfa\\xce", "service.name"]
    path = BUILD / f"{target}.dict"
    path.write_text("".join(f'"{word}"\n' for word in words))
    return path


def keep(target: str, preload: Path) -> None:
    """Adds to the corpus in the repository what reaches new code, smallest inputs first."""
    merged = BUILD / "merged" / target
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    line, environment = command(
        target,
        preload,
        "-merge=1",
        f"-max_len={INPUT_BYTES_MAX}",
        str(merged),
        str(CORPUS / target),
        str(BUILD / "corpus" / target),
    )
    subprocess.run(line, cwd=BUILD, env=environment, capture_output=True, timeout=600, check=True)
    files = list((CORPUS / target).iterdir())
    room = CORPUS_BYTES_MAX - sum(path.stat().st_size for path in files)
    added = 0
    for path in sorted(merged.iterdir(), key=lambda path: path.stat().st_size):
        room -= path.stat().st_size
        if room < 0 or len(files) + added >= CORPUS_FILES_MAX:
            break
        if not (CORPUS / target / path.name).exists():
            shutil.copyfile(path, CORPUS / target / path.name)
            added += 1
    print(f"{target:8} {added} inputs added to the corpus")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
