"""Connections and the limit of open files, in processes that may be limited."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from ingest.open_files import connections_allowed
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
print(connections_allowed(1_000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "raised_to"),
    [(1_024, 4_096, 1_000, 2_200), (3_000, 4_096, 1_000, 3_000), (256, 1_000, 400, 1_000)],
)
def test_L08_the_soft_limit_is_raised_and_the_hard_one_respected(
    soft: int, hard: int, allowed: int, raised_to: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == [str(allowed), str(raised_to)]
    assert ("raise the hard limit" in done.stderr) == (allowed < 1_000)
