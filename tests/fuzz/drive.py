"""The process that fuzzes one target: `drive.py LAUNCHER TARGET [libFuzzer arguments]`.

`run.py` starts it, with the sanitised extensions first on the path and the sanitiser preloaded,
through an executable LAUNCHER, which libFuzzer calls again when it merges corpora.
"""

import os
import sys
from importlib import import_module
from typing import Final
from zlib import crc32

import atheris

TARGETS: Final = ("traces", "logs", "metrics", "json")
# Comparing with plain Python is a hundred times slower than decoding, so few inputs get it here;
# the test suite compares on the whole corpus.
COMPARED_OF: Final = 32
# Continuous integration looks for memory faults alone: what it says of a change must not depend on
# which inputs chance brings.
COMPARES: Final = not os.environ.get("CI")
COMPARED_BYTES_MAX: Final = 2_048


def main() -> None:
    launcher, target, *arguments = sys.argv[1:]
    module = import_module(f"tests.fuzz.{'json' if target == 'json' else 'encoder'}_target")
    check = module.check if target == "json" else module.check_of(target)

    def one_input(data: bytes) -> None:
        compare = COMPARES and len(data) <= COMPARED_BYTES_MAX and crc32(data) % COMPARED_OF == 0
        check(data, compare=compare)

    atheris.Setup([launcher, *arguments], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
