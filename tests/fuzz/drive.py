"""The process that fuzzes one target: `drive.py LAUNCHER TARGET [libFuzzer arguments]`.

`run.py` starts it, with the sanitised extensions first on the path and the sanitiser preloaded,
through an executable LAUNCHER, which libFuzzer calls again when it merges corpora.
"""

import sys
from importlib import import_module
from typing import Final
from zlib import crc32

import atheris

TARGETS: Final = ("traces", "logs", "metrics", "json")
# Comparing with plain Python is a hundred times slower than decoding, so few inputs get it here;
# the test suite compares on the whole corpus.
COMPARED_OF: Final = 32
COMPARED_BYTES_MAX: Final = 2_048


def main() -> None:
    launcher, target, *arguments = sys.argv[1:]
    module = import_module(f"tests.fuzz.{'json' if target == 'json' else 'encoder'}_target")
    check = module.check if target == "json" else module.check_of(target)

    def one_input(data: bytes) -> None:
        compare = len(data) <= COMPARED_BYTES_MAX and crc32(data) % COMPARED_OF == 0
        check(data, compare=compare)

    atheris.Setup([launcher, *arguments], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
