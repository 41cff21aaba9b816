"""What all tests share: property tests of a fixed length, and no test that is quietly skipped."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.kafka.fixtures",
    "tests.postgres.fixtures",
    "tests.control.product",
    "tests.control.telemetry",
]

settings.register_profile(
    "ci",
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough",
    max_examples=5_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# Under a sanitiser everything takes several times as long.
settings.register_profile("sanitised", parent=settings.get_profile("ci"), max_examples=25)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# Files that take long, the longest first: they are begun before all others, so that none of them
# runs alone at the end while the other workers have nothing left to do. Below `tests`.
LONG: Final = (
    "test_instructions.py",
    "integration/control/test_openapi.py",
    "model/test_exactly_once.py",
    "mutants/test_mutants.py",
    "mutants/test_reading_mutants.py",
    "test_source.py",
    "chaos/test_kafka_faults.py",
    "chaos/test_outages.py",
    "chaos/test_gateway_crashes.py",
    "e2e/test_up.py",
    "e2e/test_wheel.py",
    "chaos/test_campaign.py",
    "e2e/test_sdks.py",
    "chaos/test_control_plane_outages.py",
    "chaos/test_clocks_and_disks.py",
    "chaos/test_usage.py",
    "e2e/test_new_module.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files of `LONG` first; the rest stays as it is, with the small unit tests at the end."""
    tests = Path(__file__).parent
    places = {tests / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(autouse=True, scope="module")
def _leave_nothing_open() -> Iterator[None]:
    """What a module's tests forgot to close is their own failure, not that of some later test."""
    yield
    gc.collect()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In continuous integration a skipped test is a failed run: everything can run there."""
    if os.environ.get("CI") and terminalreporter.stats.get("skipped"):
        terminalreporter.section("skipped tests are not allowed in CI", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn skips into a failure in continuous integration."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
