"""The extensions as they were built: what makes a fault in them hard to use for anything."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import ingest.codec

EXTENSIONS = sorted(Path(ingest.codec.__file__).parent.glob("*.so"))

pytestmark = pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is missing")


def readelf(path: Path, *options: str) -> str:
    done = subprocess.run(
        ["readelf", "--wide", *options, str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_S74_the_codec_is_compiled() -> None:
    assert len(EXTENSIONS) > 8


@pytest.mark.parametrize("path", EXTENSIONS, ids=lambda path: path.name.partition(".")[0])
def test_S74_an_extension_is_hardened(path: Path) -> None:
    segments = readelf(path, "--segments")
    # Full RELRO: resolved at load time, and read-only from then on.
    assert "GNU_RELRO" in segments
    assert "BIND_NOW" in readelf(path, "--dynamic")
    # No stack from which code could be run, nothing that is writable and executable.
    (stack,) = re.findall(r"GNU_STACK .* (\w{2,3}) +0x\w+$", segments, re.MULTILINE)
    assert stack == "RW"
    assert not re.search(r"LOAD .* RWE ", segments)


def test_S74_the_compiler_guarded_stacks_and_copies() -> None:
    """Each only where there is something to guard, so of all extensions together."""
    symbols = " ".join(readelf(path, "--dyn-syms") for path in EXTENSIONS)
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__\w+_chk\b", symbols.replace("__stack_chk_fail", ""))
