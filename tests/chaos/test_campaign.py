"""The chaos campaign in its short form; `make chaos` runs the long one."""

from pathlib import Path

import pytest

from tests.chaos.campaign.clients import Tally
from tests.chaos.campaign.report import write_report
from tests.chaos.campaign.runs import Campaign, Result, Stored, judge

ITEMS = 4_000

pytestmark = pytest.mark.timeout(240)


def check(campaign: Campaign, seeds: tuple[int, ...]) -> list[Result]:
    results = [campaign.run(seed, ITEMS) for seed in seeds]
    campaign.count_again(results)
    assert [result.line() for result in results if not result.good] == []
    return results


def test_F15_F80_random_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    with Campaign(tmp_path, log="embedded") as campaign:
        results = check(campaign, (11, 12))
        # And what is stored late for a second time is noticed.
        campaign.product.rows("INSERT INTO tf_logs SELECT * FROM tf_logs LIMIT 1")
        campaign.count_again(results)
    complaints = [text for result in results for text in result.complaints]
    assert complaints == [f"{ITEMS + 1} rows when counted again"]


@pytest.mark.usefixtures("kafka_installed")
def test_F15_F80_random_faults_lose_and_double_nothing_on_kafka(tmp_path: Path) -> None:
    seeds = (7, 21)
    with Campaign(tmp_path, log="kafka") as campaign:
        results = check(campaign, seeds)
    report = tmp_path / "report.md"
    write_report(report, results, log="kafka")
    assert f"| items stored | {ITEMS * len(seeds):,} |" in report.read_text()


@pytest.mark.parametrize(
    "logs",
    [
        Stored(rows=9, distinct=9, highest=9, of_wrong_tenant=0),
        Stored(rows=11, distinct=10, highest=9, of_wrong_tenant=0),
        Stored(rows=10, distinct=9, highest=9, of_wrong_tenant=0),
        Stored(rows=10, distinct=10, highest=10, of_wrong_tenant=0),
        Stored(rows=10, distinct=10, highest=9, of_wrong_tenant=1),
    ],
    ids=["lost", "twice", "one lost and one twice", "never sent", "wrong tenant"],
)
def test_a_run_in_which_something_went_wrong_is_not_good(logs: Stored) -> None:
    right = Stored(rows=10, distinct=10, highest=9, of_wrong_tenant=0)
    tally = Tally(10)
    tally.sent["logs"] = tally.acked["logs"] = 10
    result = Result(1, 10)
    judge(result, tally, {"logs": right})
    assert result.good
    result = Result(1, 10)
    judge(result, tally, {"logs": logs})
    assert not result.good
