"""The process that fuzzes one target: `drive.py LAUNCHER TARGET [libFuzzer arguments]`.

`run.py` starts it, with the sanitised extensions first on the path and the sanitiser preloaded,
through an executable LAUNCHER, which libFuzzer calls again when it merges corpora.
"""

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final
from zlib import crc32

import atheris

EDGE_TARGETS: Final = ("http1", "http2")
# atheris follows these, as clang's instrumentation follows the codec.
EDGE_PACKAGES: Final = ["ingest.receivers"]
# Comparing with plain Python is a hundred times slower than decoding, so few inputs get it here;
# the test suite compares on the whole corpus.
COMPARED_OF: Final = 32
# Continuous integration looks for memory faults alone: what it says of a change must not depend on
# which inputs chance brings.
COMPARES: Final = not os.environ.get("CI")
COMPARED_BYTES_MAX: Final = 2_048


def main() -> None:
    launcher, target, *arguments = sys.argv[1:]
    check = check_of(target)
    compared_of = 1 if target in EDGE_TARGETS else COMPARED_OF

    def one_input(data: bytes) -> None:
        compare = COMPARES and len(data) <= COMPARED_BYTES_MAX and crc32(data) % compared_of == 0
        try:
            check(data, compare=compare)
        except Exception:
            # libFuzzer does not always keep what Python raised on.
            kept = Path(os.environ["FUZZ_FINDINGS"] + hashlib.sha1(data).hexdigest())
            kept.write_bytes(data)
            print(f"Test unit written to {kept}", file=sys.stderr)
            raise

    atheris.Setup([launcher, *arguments], one_input)
    atheris.Fuzz()


def check_of(target: str) -> Callable[..., None]:
    """The function that an input is given to."""
    if target in EDGE_TARGETS:
        with atheris.instrument_imports(include=EDGE_PACKAGES):
            import_module("ingest.receivers.grpc")
            import_module("ingest.receivers.http")
        from tests.fuzz import edge_target

        return edge_target.check_of(target, asyncio.new_event_loop())
    if target == "json":
        from tests.fuzz import json_target

        return json_target.check
    from tests.fuzz import encoder_target

    return encoder_target.check_of(target)


if __name__ == "__main__":
    main()
