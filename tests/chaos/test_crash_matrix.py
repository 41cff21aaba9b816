"""The crash matrix is complete, and says what happens."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.crash_matrix import (
    GATEWAY_POINTS,
    REVOKE_POINT,
    WRITER_POINTS,
    Observation,
    laboratory,
)
from tests.e2e.processes import ROOT

MATRIX: Final = ROOT / "docs" / "chaos" / "crash-matrix.md"
# They need damaged data, or an operator: tests of their own reach them.
ELSEWHERE: Final = (
    "writer.in_dead_letter",
    "log.before_repaired",
    "dead_letters.after_insert_before_commit",
)

pytestmark = pytest.mark.timeout(240)


def documented(log: str) -> list[str]:
    """The rows of the matrix for *log*."""
    sections = MATRIX.read_text().split("\n## ")
    (section,) = (text for text in sections if text.lower().startswith(log))
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_every_crash_point_is_in_the_matrix_or_has_a_test_of_its_own() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "ingest").rglob("*.py"))
    points = set(re.findall(r'crash_point\("([a-z_.]+)"\)', sources))
    assert points == {*GATEWAY_POINTS, *WRITER_POINTS, REVOKE_POINT, *ELSEWHERE}
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    texts = "\n".join(path.read_text() for path in tests)
    assert [point for point in ELSEWHERE if point not in texts] == []


@pytest.mark.parametrize("log", ["embedded", "kafka"])
def test_each_death_in_the_matrix_leaves_each_record_stored_once(log: str) -> None:
    rows = documented(log)
    points = {*GATEWAY_POINTS, *WRITER_POINTS} | ({REVOKE_POINT} if log == "kafka" else set())
    assert points <= {row.split(" | ")[1] for row in rows}
    assert [row for row in rows if not row.endswith("| each once |")] == []


@pytest.mark.usefixtures("kafka_installed")
def test_F04_F16_deaths_on_kafka_show_what_the_matrix_says(tmp_path: Path) -> None:
    with laboratory(tmp_path, log="kafka") as those:
        observed = [those.gateway_dies("log.after_commit"), those.writer_dies_as_it_hands_over()]
    assert [one.row() for one in observed if one.row() not in documented("kafka")] == []


@pytest.mark.parametrize(
    ("answer", "stored", "distinct"),
    [("accepted", 99, 99), ("accepted", 200, 100), ("503, try again", 100, 100)],
)
def test_what_is_lost_or_doubled_or_refused_is_not_good(
    answer: str, stored: int, distinct: int
) -> None:
    seen = Observation(who="writer", when="now", run="", request=b"")
    seen.repeat_answer, seen.stored, seen.distinct = answer, stored, distinct
    assert not seen.good
    assert not seen.row().endswith("| each once |")
