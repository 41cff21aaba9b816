"""For each rule of reading telemetry, a variant of the code that breaks it: the tests must notice.

They share ClickHouse and PostgreSQL: starting them takes longer than the tests.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.control.telemetry import PORT_OF_ENGINE
from tests.integration.shared.embedded_server import EmbeddedServer
from tests.mutants.breaking import TESTS_FAILED, Mutant, copy_of_source, outcome, outcome_of_mutant
from tests.postgres.fixtures import PLACE_OF_SERVER
from tests.postgres.server import PostgresServer

_QUERIES: Final = "control/telemetry/queries"
_AUTHENTICATOR: Final = "control/api_keys/authenticator.py"
_UNIT: Final = "tests/unit/control/telemetry"
_ENGINE: Final = "tests/integration/control/telemetry"
# Without the fixtures of the rest of the product, which take longer to import than these tests.
_ALONE: Final = f"--confcutdir={_UNIT}"
CHECKER: Final = (_ALONE, f"{_UNIT}/test_checker.py")
CURSORS: Final = (_ALONE, f"{_UNIT}/test_cursors.py")
GAUGES: Final = (f"{_ENGINE}/test_metric_numbers.py::test_gauges_are_what_plain_Python_says",)
HISTOGRAMS: Final = (
    f"{_ENGINE}/test_metric_numbers.py::test_histograms_go_through_resets_of_both_kinds[explicit]",
)
COUNTERS: Final = (
    (
        f"{_ENGINE}/test_metric_numbers.py"
        "::test_increases_go_through_resets_gaps_and_repeated_times[2-True]"
    ),
)
KEYS: Final = f"{_ENGINE}/test_reading_keys.py"
KEYS_OF_TENANTS: Final = (f"{KEYS}::test_S33_whatever_a_header_says_a_key_reads_no_other_tenant",)
KEYS_OF_SIGNALS: Final = (f"{KEYS}::test_a_key_reads_the_signals_that_it_may_and_nothing_else",)
TAILS: Final = (
    f"{_ENGINE}/test_tail.py::test_S47_whatever_comes_in_whatever_order_is_given_once[0]",
)

ENGINE_TESTS: Final = (
    *GAUGES,
    *HISTOGRAMS,
    *COUNTERS,
    *KEYS_OF_TENANTS,
    *KEYS_OF_SIGNALS,
    *TAILS,
)

READING_MUTANTS: Final = (
    Mutant(
        "S33 a table without its tenant",
        f"{_QUERIES}/sql.py",
        "WHERE TenantId = {tenant}{condition}",
        "WHERE 1{condition}",
        CHECKER,
    ),
    Mutant(
        "S33 the times of traces without their tenant",
        f"{_QUERIES}/sql.py",
        "WHERE H = cityHash64({tenant}, unhex({trace}))",
        "WHERE H = cityHash64('', unhex({trace}))",
        CHECKER,
    ),
    Mutant(
        "S44 the checker skips a table",
        f"{_QUERIES}/checker.py",
        "    if not found:",
        '    if not found and table != "tf_services":',
        CHECKER,
    ),
    Mutant(
        "S44 the checker does not see what widens the tenant",
        f"{_QUERIES}/checker.py",
        "    if following not in _AFTER_TABLE:",
        '    if following == ";":',
        CHECKER,
    ),
    Mutant(
        "S44 the checker lets any function through",
        f"{_QUERIES}/checker.py",
        "    if is_called and word not in FUNCTIONS and word not in _KEYWORDS:",
        "    if is_called and not word:",
        CHECKER,
    ),
    Mutant(
        "S47 a cursor is good for any tenant",
        f"{_QUERIES}/cursors.py",
        "orjson.dumps([tenant, question])",
        "orjson.dumps([question])",
        CURSORS,
    ),
    Mutant(
        "S47 a cursor is good for any question",
        f"{_QUERIES}/cursors.py",
        "orjson.dumps([tenant, question])",
        "orjson.dumps([tenant])",
        CURSORS,
    ),
    Mutant(
        "buckets that begin beside the grid",
        f"{_QUERIES}/services.py",
        "intDiv(toUnixTimestamp64Nano({column}), ",
        "intDiv(toUnixTimestamp64Nano({column}) + 1, ",
        GAUGES,
    ),
    Mutant(
        "labels of another series",
        f"{_QUERIES}/known_series.py",
        "        return self.numbered[number - 1]",
        "        return self.numbered[number - 2]",
        GAUGES,
    ),
    Mutant(
        "a series that the catalogue does not know has the labels of another",
        f"{_QUERIES}/known_series.py",
        "        if number == 0:",
        "        if number < 0:",
        GAUGES,
    ),
    Mutant(
        "another start time of a histogram is no reset",
        f"{_QUERIES}/distributions.py",
        "place = 1 OR start_ns != start_before ",
        "place = 1 ",
        HISTOGRAMS,
    ),
    Mutant(
        "a lower value of a counter is no reset",
        f"{_QUERIES}/metrics.py",
        "start_ns != start_before OR (counts_up AND level < level_before), level, ",
        "start_ns != start_before, level, ",
        COUNTERS,
    ),
    Mutant(
        "another start time of a counter is no reset",
        f"{_QUERIES}/metrics.py",
        "start_ns != start_before OR (counts_up AND level < level_before), level, ",
        "counts_up AND level < level_before, level, ",
        COUNTERS,
    ),
    Mutant(
        "S33 a key takes another tenant's name for its own",
        _AUTHENTICATOR,
        'if wanted is not None and wanted not in (str(row["tenant_id"]), row["telemetry_id"]):',
        "if wanted is not None and not wanted:",
        KEYS_OF_TENANTS,
    ),
    Mutant(
        "S30 a key reads signals that it has no permission for",
        _AUTHENTICATOR,
        "permissions=permissions | {_QUERIES} if permissions & _READS else permissions",
        "permissions=_READS | {_QUERIES}",
        KEYS_OF_SIGNALS,
    ),
    Mutant(
        "S47 what comes late to a tail is not given",
        f"{_QUERIES}/tail.py",
        '        if counted[0]["items"] == len(self._place.given):',
        "        if counted:",
        TAILS,
    ),
    Mutant(
        "S47 a tail that goes on gives again what it gave",
        f"{_QUERIES}/tail.py",
        "            if rest[_key(position)]:",
        "            if not rest:",
        TAILS,
    ),
)


@pytest.fixture(scope="module")
def copy(
    tmp_path_factory: pytest.TempPathFactory,
    telemetry_engine: EmbeddedServer,
    postgres: PostgresServer,
) -> Iterator[Path]:
    """The source, free to be broken; its tests use the engines of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PORT_OF_ENGINE, str(telemetry_engine.port))
        patch.setenv(PLACE_OF_SERVER, f"{postgres.port} {postgres.data}")
        yield copy_of_source(tmp_path_factory.mktemp("source"))


@pytest.mark.parametrize("mutant", READING_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_rule_of_reading_is_noticed(mutant: Mutant, copy: Path) -> None:
    done = outcome_of_mutant(copy, mutant)
    assert done.returncode == TESTS_FAILED, done.stdout[-2_000:] + done.stderr[-2_000:]
    assert " error" not in done.stdout.splitlines()[-1], done.stdout[-2_000:]


def test_the_source_of_reading_as_it_is_passes(copy: Path) -> None:
    done = outcome(copy, (*CHECKER[1:], *CURSORS[1:], *ENGINE_TESTS))
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
