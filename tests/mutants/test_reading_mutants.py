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
_DATABASE: Final = "shared/postgres/database.py"
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

TENANTS_OF_THE_PLATFORM: Final = (
    (
        "tests/integration/control/auth/test_revocation.py"
        "::test_S33_who_runs_the_platform_is_in_a_tenant_for_as_long_as_it_is_active"
    ),
)
SESSIONS: Final = (
    (
        "tests/integration/shared/postgres/test_database.py"
        "::test_S32_nothing_of_a_session_is_left_for_the_next_transaction"
    ),
)

KEPT: Final = (f"{_ENGINE}/test_services.py::test_S38_a_closed_range_is_kept_for_its_tenant_alone",)
HOURS: Final = (
    (
        f"{_ENGINE}/test_services.py"
        "::test_whole_hours_of_a_long_range_are_exact_also_where_data_came_late"
    ),
)
FIVE_MINUTES: Final = (
    f"{_ENGINE}/test_traces.py::test_spans_of_a_time_are_found_by_its_five_minutes",
)
LONG_TRACES: Final = (
    f"{_ENGINE}/test_traces.py::test_a_trace_is_whole_without_a_range_though_it_took_hours",
)
SLICES: Final = (
    (
        f"{_ENGINE}/test_traces.py"
        "::test_S47_pages_of_a_long_range_give_each_once_though_its_end_is_read_first"
    ),
)
NOTES: Final = (f"{_ENGINE}/test_traces.py::test_the_notes_of_traces_are_of_one_tenant",)
PAGES: Final = (f"{_ENGINE}/test_logs.py::test_pages_neither_repeat_nor_skip_while_records_arrive",)
LABELS: Final = (
    (
        f"{_ENGINE}/test_metric_numbers.py"
        "::test_labels_come_from_the_catalogue_and_before_it_knows_them_from_the_points"
    ),
)
MINUTES: Final = (
    f"{_ENGINE}/test_odd_questions.py::test_minutes_answer_a_question_of_services_up_to_now[1m]",
)

LATE: Final = (
    f"{_ENGINE}/test_late_data.py::test_series_that_came_hours_late_are_in_the_catalogue",
)
DAYS_COMPARED: Final = (
    (
        f"{_ENGINE}/test_comparisons.py"
        "::test_a_day_is_compared_with_the_same_day_before_the_clocks_changed[25]"
    ),
)
NOTHING: Final = (
    f"{_ENGINE}/test_fills.py::test_what_is_compared_with_nothing_is_compared_with_zeros",
)

ENGINE_TESTS: Final = (
    *KEPT,
    *HOURS,
    *FIVE_MINUTES,
    *LONG_TRACES,
    *NOTES,
    *SLICES,
    *PAGES,
    *LABELS,
    *MINUTES,
    *LATE,
    *DAYS_COMPARED,
    *NOTHING,
    *GAUGES,
    *HISTOGRAMS,
    *COUNTERS,
    *KEYS_OF_TENANTS,
    *KEYS_OF_SIGNALS,
    *TAILS,
    *TENANTS_OF_THE_PLATFORM,
    *SESSIONS,
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
        "S38 an answer is kept for all tenants",
        "control/telemetry/api/kit.py",
        'found.tenant, "telemetry", call.request.path',
        '"any", "telemetry", call.request.path',
        KEPT,
    ),
    Mutant(
        "S33 the tenant of a question is not the caller's",
        f"{_QUERIES}/engine.py",
        "call.caller.telemetry_id, is_abandoned",
        "'default', is_abandoned",
        KEPT,
    ),
    Mutant(
        "S33 a tenant is read on after it was deactivated",
        "control/core/access.py",
        '            and self.telemetry_id == person["telemetry_id"]\n',
        "",
        TENANTS_OF_THE_PLATFORM,
    ),
    Mutant(
        "S32 what a transaction did to its session stays for the next one",
        _DATABASE,
        'f"{end}; {connection.get_reset_query()}"',
        "end",
        SESSIONS,
    ),
    Mutant(
        "S32 a connection goes back as it is",
        _DATABASE,
        "if not connection.take_clean():",
        "if connection.take_clean():",
        SESSIONS,
    ),
    Mutant(
        "spans are not found by their five minutes",
        f"{_QUERIES}/sql.py",
        "    if table not in _SLOTTED or",
        "    if table in _SLOTTED or",
        FIVE_MINUTES,
    ),
    Mutant(
        "spans of the last five minutes of a range are not found",
        f"{_QUERIES}/sql.py",
        "(end_ns - 1) // _SLOT_NS * _SLOT_SECONDS",
        "((end_ns - 1) // _SLOT_NS - 1) * _SLOT_SECONDS",
        FIVE_MINUTES,
    ),
    Mutant(
        "a trace is looked for in the second before its last span",
        f"{_QUERIES}/traces.py",
        "(last + 1) * SECOND_NS",
        "last * SECOND_NS",
        LONG_TRACES,
    ),
    Mutant(
        "rows of the time at which a page ended take the places of older ones",
        f"{_QUERIES}/paging.py",
        "    if len(rows) < limit and len(newest) == limit + skipped:",
        "    if len(rows) > limit:",
        PAGES,
    ),
    Mutant(
        "the last span of a trace is looked for before the place of the page",
        f"{_QUERIES}/traces.py",
        "        within = TimeRange(start_ns, span.end_ns)",
        "        within = TimeRange(start_ns, pages.end_ns)",
        SLICES,
    ),
    Mutant(
        "traces that a part of the range has are taken for all",
        f"{_QUERIES}/traces.py",
        "        if len(rows) > query.limit:\n            break",
        "        if rows:\n            break",
        SLICES,
    ),
    Mutant(
        "matched spans are all spans of the trace",
        f"{_QUERIES}/traces.py",
        """sql("countIf(", matching, ")")""",
        '"count()"',
        SLICES,
    ),
    Mutant(
        "S44 the checker does not see what stands before the tenant",
        f"{_QUERIES}/checker.py",
        "    return at + 3\n",
        "    return end\n",
        CHECKER,
    ),
    Mutant(
        "minutes after the last whole hour are left out",
        f"{_QUERIES}/services.py",
        "edges = [(span.start_ns, first), (last, span.end_ns)]",
        "edges = [(span.start_ns, first)]",
        HOURS,
    ),
    Mutant(
        "a relative question of services reads the spans",
        f"{_QUERIES}/model.py",
        "return asked if isinstance(self.range, AbsoluteRange) else",
        "return asked if self.range else",
        MINUTES,
    ),
    Mutant(
        "labels of the catalogue are of any type",
        f"{_QUERIES}/metric_catalogue.py",
        "    if query.metric_type is not None:\n        return None\n",
        "",
        LABELS,
    ),
    Mutant(
        "labels that the catalogue does not know are not looked for",
        f"{_QUERIES}/metric_catalogue.py",
        '        if row["series"]:',
        "        if row:",
        LABELS,
    ),
    Mutant(
        "a series of the catalogue is of another day",
        f"{_QUERIES}/sql.py",
        ") AND Day <= toDate(",
        ") AND Day < toDate(",
        LABELS,
    ),
    Mutant(
        "what came late is not looked for",
        "shared/clickhouse/rollups.py",
        "    return [(table, first, min(last + 1, end), parts) for",
        "    return [(table, first, first, parts) for",
        LATE,
    ),
    Mutant(
        "a day is compared with 24 hours",
        f"{_QUERIES}/time_range.py",
        "        if time_zone is None or seconds % DAY_SECONDS:",
        "        if time_zone is None or seconds:",
        DAYS_COMPARED,
    ),
    Mutant(
        "nothing found is no series",
        f"{_QUERIES}/series.py",
        'question.fill != "none":',
        'question.fill == "none":',
        NOTHING,
    ),
    Mutant(
        "averages of series are those of all their points",
        f"{_QUERIES}/metrics.py",
        "    return _ASSOCIATIVE.get(question.aggregation) == _combine_of(question)",
        "    return bool(_combine_of(question))",
        GAUGES,
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
