"""For each rule of delivery, a variant of the code that breaks it: the tests must notice.

A mutant replaces one piece of text in a copy of the source, and runs the tests that guard the rule.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.mutants.breaking import (
    TESTS_FAILED,
    Mutant,
    copy_of_source,
    outcome,
    outcome_of_mutant,
)

# Without the fixtures of the rest of the product, which take longer to import than these tests.
# None of them takes a second; some mutants hang.
_ALONE: Final = ("--confcutdir=tests/unit/ingest", "--timeout=10")
WRITER_TESTS: Final = (
    *_ALONE,
    "tests/unit/ingest/test_writer.py",
    "tests/unit/ingest/test_writer_repeats.py",
    # Takes as long as all others, and is about a size.
    (
        "--deselect=tests/unit/ingest/test_writer.py::"
        "test_a_plan_full_of_bad_records_still_fits_into_the_metadata"
    ),
)
RECOVERY_TESTS: Final = (*_ALONE, "tests/unit/ingest/test_recovery.py")
GATEWAY_TESTS: Final = (*_ALONE, "tests/unit/ingest/test_gateway.py")
# Over HTTP: a gRPC channel takes longer to notice that nobody answers.
WORKSPACE_TESTS: Final = (
    "--confcutdir=tests/contract",
    "tests/contract/test_workspace_keys.py",
    "-k",
    "not ngh2 and not grpcio",
)


MUTANTS: Final = (
    Mutant(
        "I1 acknowledged before it is durable",
        "ingest/batcher.py",
        "            if records:\n                await self._log.append_many(",
        "            if records:\n                _never = self._log.append_many(",
        GATEWAY_TESTS,
    ),
    Mutant(
        "I2 acknowledged although the log refused",
        "ingest/batcher.py",
        "        except TelemetryFlowError as error:\n            _fail(opened.members, error)",
        "        except TelemetryFlowError:\n            _succeed(opened.members)",
        GATEWAY_TESTS,
    ),
    Mutant(
        "I3 committed before it is stored",
        "ingest/partition_writer.py",
        "        await self._commit(plan.start, position, plan)",
        "        await self._commit(plan.end + 1, position, None)",
        WRITER_TESTS,
    ),
    Mutant(
        "I4 inserted without a plan",
        "ingest/partition_writer.py",
        "        await self._commit(plan.start, position, plan)",
        "        await asyncio.sleep(0)",
        WRITER_TESTS,
    ),
    Mutant(
        "I4 cut without noting it",
        "ingest/partition_writer.py",
        "            await self._commit_patiently(plan.start, position, plan)\n        return plan",
        "        return plan",
        WRITER_TESTS,
    ),
    Mutant(
        "I4 cut while an insert may still come through",
        "ingest/partition_writer.py",
        "        if left <= 0:\n            return False",
        "        if left <= 1e9:\n            return False",
        RECOVERY_TESTS,
    ),
    Mutant(
        "I4 a part of a plan taken for the whole",
        "ingest/partition_writer.py",
        "        if not records or records[-1].offset < plan.end:",
        "        if plan.end < 0:",
        RECOVERY_TESTS,
    ),
    Mutant(
        "I5 tokens of offsets alone",
        "ingest/plans.py",
        "        *(first.offset, first.timestamp_ms, last.offset, last.timestamp_ms),",
        "        *(first.offset, last.offset),",
        WRITER_TESTS,
    ),
    Mutant(
        "I5 tokens that do not tell one log from another",
        "ingest/plans.py",
        "    token = _token(\n        log_identity,\n",
        "    token = _token(\n",
        WRITER_TESTS,
    ),
    Mutant(
        "I5 a plan repeated with another window",
        "ingest/partition_writer.py",
        "SeenRequests(position.plan.window if position.plan else self._window)",
        "SeenRequests(self._window)",
        RECOVERY_TESTS,
    ),
    Mutant(
        "I7 written without a deduplication window",
        "ingest/writer.py",
        "            if lasting:",
        "            if lasting and not problems:",
        (*_ALONE, "tests/unit/ingest/test_writer_start.py"),
    ),
    Mutant(
        "I9 a client's retry stored again",
        "ingest/repeats.py",
        "        if not repeated or info is None:\n            return planned",
        "        if repeated is not None:\n            return planned",
        WRITER_TESTS,
    ),
    Mutant(
        "I9 repeats forgotten at a restart",
        "ingest/repeats.py",
        "                if record.offset < offset and not is_newer(record):",
        "                if record.offset < 0 and not is_newer(record):",
        WRITER_TESTS,
    ),
    Mutant(
        "I10 inserted without holding the partition",
        "ingest/partition_writer.py",
        "            while not self._lease.held():\n"
        "                self._check_lease()\n"
        "                await self._sleep(LEASE_SECONDS)\n"
        "            async with self._insert_slots:\n"
        "                if not self._lease.held():\n",
        "            async with self._insert_slots:\n                if not self._lease:\n",
        RECOVERY_TESTS,
    ),
    Mutant(
        "I10 gone on with where it was when the partition comes back",
        "ingest/partition_writer.py",
        "        if self._lease.lost:",
        "        if self._lease.lost and not self._lease:",
        RECOVERY_TESTS,
    ),
    Mutant(
        "I10 a partition given away while it is held",
        "ingest/kafka_log/assignor.py",
        "if holder.get(place, member) == member",
        "if holder.get(place, member)",
        ("tests/unit/ingest/kafka/test_assignor.py",),
    ),
    Mutant(
        "I11 a refused record passed without a dead letter",
        "ingest/partition_writer.py",
        "                await bury(self._log, record, table, str(refusal), source)",
        "                await asyncio.sleep(0)",
        WRITER_TESTS,
    ),
    Mutant(
        "I12 rows that were dropped as repeats are not counted",
        "ingest/partition_writer.py",
        "            position.progress.repeated + _rows(planned) - kept_rows,",
        "            position.progress.repeated,",
        WRITER_TESTS,
    ),
    Mutant(
        "I13 a passing failure ends the work",
        "ingest/partition_writer.py",
        '                logger.warning("%s/%d waits: %s", self._topic, self._partition, error)',
        "                raise",
        WRITER_TESTS,
    ),
    Mutant(
        "I13 what is held and not worked on is never let go",
        "ingest/writer.py",
        "        revoked = assignment.revoked() - self._running.keys()",
        "        revoked = lost",
        (*_ALONE, "tests/unit/ingest/test_writer_assignment.py"),
    ),
    Mutant(
        "I14 rows under another tenant than the key's",
        "ingest/gateway.py",
        "                tenant_id=tenant,",
        '                tenant_id="default",',
        GATEWAY_TESTS,
    ),
    Mutant(
        "I14 stored for a tenant of another workspace than the key's",
        "ingest/directory.py",
        "        if tenant is None or tenant.workspace != principal.workspace_id or",
        "        if tenant is None or",
        WORKSPACE_TESTS,
    ),
    Mutant(
        "I14 a header may name any tenant that there is",
        "ingest/directory.py",
        "        if tenant is None or tenant.workspace != key.workspace:",
        "        if tenant is None:",
        WORKSPACE_TESTS,
    ),
    Mutant(
        "I9 one tenant's part of a request is taken for another's",
        "ingest/gateway.py",
        'received.id + f"{signal}/{tenant}".encode()',
        'received.id + f"{signal}".encode()',
        WORKSPACE_TESTS,
    ),
    Mutant(
        "I2 a mixed request is answered although a part is not durable",
        "ingest/gateway.py",
        "                raise outcome\n",
        "                continue\n",
        WORKSPACE_TESTS,
    ),
    Mutant(
        "I12 records beyond an end that is out of date are passed over",
        "ingest/kafka_log/reader.py",
        "if one.offset >= offset]",
        "if offset <= one.offset < end]",
        (*_ALONE, "tests/unit/ingest/kafka/test_reader.py"),
    ),
    Mutant(
        "F30 records deleted unread are not reported",
        "ingest/recovery.py",
        "    if deleted > 0:",
        "    if deleted > 10**9:",
        RECOVERY_TESTS,
    ),
    Mutant(
        "F20 a log made anew is taken for the old one",
        "ingest/recovery.py",
        "    if incarnation != known:",
        '    if incarnation == "never":',
        RECOVERY_TESTS,
    ),
    Mutant(
        "F19 offsets that are gone mean the beginning",
        "ingest/recovery.py",
        "    return max(first, stored_end + 1)",
        "    return first",
        RECOVERY_TESTS,
    ),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source, free to be broken; each mutant is mended after its run."""
    return copy_of_source(tmp_path_factory.mktemp("source"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_rule_is_noticed(mutant: Mutant, copy: Path) -> None:
    done = outcome_of_mutant(copy, mutant)
    assert done.returncode == TESTS_FAILED, done.stdout[-2_000:] + done.stderr[-2_000:]


def test_the_source_as_it_is_passes(copy: Path) -> None:
    for tests in {mutant.tests for mutant in MUTANTS}:
        done = outcome(copy, tests)
        assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    assert str(copy) in outcome_of_import(copy)


def outcome_of_import(folder: Path) -> str:
    """Where a copy's tests find the package: in the copy, or the mutants prove nothing."""
    return subprocess.run(
        [sys.executable, "-c", "import ingest; print(ingest.__path__)"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
