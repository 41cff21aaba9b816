"""Runs the contract suite against any OTLP endpoint: python -m tests.contract --help.

Only what the specification says with MUST or SHOULD is asked of it.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.contract.otlp.endpoint import FOREIGN_PLUGIN, HTTP, ClickHouseArrivals, Endpoint

SUITE: Final = Path(__file__).parent / "otlp"
ASKED: Final = ("MUST", "SHOULD")
_MESSAGE_CHARACTERS_MAX: Final = 160


class Foreign:
    """The plugin that names the endpoint, asks only what OTLP says, and keeps the outcomes."""

    __name__ = FOREIGN_PLUGIN

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        # By test: its word, and by way to send: passed, failed or skipped, and what was answered.
        self.outcomes: dict[str, dict[str, Any]] = {}
        self._words: dict[str, str] = {}

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leaves out what is ours alone."""
        asked: list[pytest.Item] = []
        others: list[pytest.Item] = []
        for item in items:
            mark = item.get_closest_marker("otlp")
            word = mark.args[0] if mark else ""
            (asked if word in ASKED else others).append(item)
            self._words[item.nodeid] = word
        config.hook.pytest_deselected(items=others)
        items[:] = asked

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps one outcome of one test."""
        if report.when != "call" and report.passed:
            return
        name, _, parameters = report.nodeid.rpartition("::")[2].partition("[")
        test = self.outcomes.setdefault(
            name, {"word": self._words[report.nodeid], "passed": 0, "failed": {}, "skipped": 0}
        )
        if report.failed:
            test["failed"][parameters.rstrip("]")] = _answer_in(report)
        else:
            test["passed" if report.passed else "skipped"] += 1


def _answer_in(report: pytest.TestReport) -> str:
    """What the endpoint did instead, in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    line = text.removeprefix("AssertionError: ").splitlines()[0]
    return re.sub(r"\s+", " ", line)[:_MESSAGE_CHARACTERS_MAX]


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__)
    parser.add_argument("--grpc", required=True, metavar="HOST:PORT", help="OTLP/gRPC")
    parser.add_argument("--http", required=True, metavar="HOST:PORT", help="OTLP/HTTP")
    parser.add_argument("--authorization", default="", help="the Authorization header to send")
    parser.add_argument("--limit", type=int, default=0, help="the largest body of HTTP, in bytes")
    parser.add_argument("--grpc-limit", type=int, default=0, help="the largest message of gRPC")
    parser.add_argument(
        "--clickhouse", metavar="URL", help="where rows arrive; not checked without"
    )
    parser.add_argument("--database", default="telemetry", help="with the exporter's tables")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the outcomes as JSON")
    parser.add_argument("--name", default="", help="product and version, kept with the outcomes")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """Runs the suite, prints a table; 0 when everything that was asked holds."""
    arguments = _arguments(given)
    credentials = {"Authorization": arguments.authorization} if arguments.authorization else {}
    arrivals = None
    if arguments.clickhouse:
        arrivals = ClickHouseArrivals(arguments.clickhouse, arguments.database)
    endpoint = Endpoint(
        http=arguments.http,
        grpc={"grpc": arguments.grpc},
        credentials=credentials,
        arrivals=arrivals,
        limits_bytes={
            "grpc": arguments.grpc_limit,
            **dict.fromkeys(HTTP, arguments.limit),
        },
    )
    plugin = Foreign(endpoint)
    pytest.main(
        [str(SUITE), "-q", "--tb=no", "--no-header", "-r", "N", "-p", "no:cacheprovider"],
        plugins=[plugin],
    )
    if not plugin.outcomes:
        return 2
    for name, test in sorted(plugin.outcomes.items()):
        told = "holds" if test["passed"] else "n. a."
        print(f"{'FAILS' if test['failed'] else told}  {test['word']:6}  {name}")
        for parameters, answer in test["failed"].items():
            print(f"       {parameters}: {answer}")
    if arguments.save:
        kept = {"name": arguments.name, "rows": arrivals is not None, "tests": plugin.outcomes}
        arguments.save.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return int(any(test["failed"] for test in plugin.outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
