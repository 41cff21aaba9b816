"""The chaos campaign in its short form; `make chaos` runs the long one."""

from pathlib import Path

import pytest

from tests.chaos.campaign.report import write_report
from tests.chaos.campaign.runs import Campaign

ITEMS = 4_000

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize(("log", "seeds"), [("embedded", (11, 12)), ("kafka", (7, 21, 34))])
def test_F15_F80_random_faults_lose_and_double_nothing(
    log: str, seeds: tuple[int, ...], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if log == "kafka":
        request.getfixturevalue("kafka_installed")
    with Campaign(tmp_path, log=log) as campaign:
        results = [campaign.run(seed, ITEMS) for seed in seeds]
    assert [result.line() for result in results if not result.good] == []
    report = tmp_path / "report.md"
    write_report(report, results, log=log)
    assert f"| items stored | {ITEMS * len(seeds):,} |" in report.read_text()
