"""The chaos campaign: `python -m tests.chaos.campaign --seeds 100 --items 100000`.

For each seed, clients send so many items while a random series of faults runs. Afterwards every
item must be in ClickHouse exactly once, under the tenant that sent it. A report says what happened.
"""

import argparse
import sys
from pathlib import Path

from tests.chaos.campaign.report import write_report
from tests.chaos.campaign.runs import Campaign


def main() -> int:
    """Run it; 1 when anything was lost, doubled, or did not recover."""
    options = _parser().parse_args()
    results = []
    with Campaign(options.folder, log=options.log) as campaign:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            result = campaign.run(seed, options.items)
            results.append(result)
            print(result.line(), flush=True)
            if options.report:
                write_report(options.report, results, log=options.log)
        campaign.count_again(results)
    if options.report:
        write_report(options.report, results, log=options.log)
    if results and all(result.good for result in results):
        return 0
    print(f"what the processes printed is in {options.folder}", flush=True)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.chaos.campaign", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--items", type=int, default=10_000, help="per seed")
    parser.add_argument("--log", choices=("embedded", "kafka"), default="kafka")
    parser.add_argument("--folder", type=Path, required=True, help="data and outputs; not removed")
    parser.add_argument("--report", type=Path, help="Markdown; results as JSON lines beside it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
