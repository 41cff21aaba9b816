"""docs/otlp-contract.md says what the tests say."""

from tests.contract.checks import CHECKS
from tests.contract.table import ROOT, TABLE, files_of_checks, table


def test_every_check_has_a_test_and_every_test_a_check() -> None:
    found = files_of_checks()

    assert found.keys() == CHECKS.keys()
    assert [name for name, files in found.items() if not files] == []
    assert [file for files in found.values() for file in files if not (ROOT / file).exists()] == []


def test_the_table_of_the_contract_is_up_to_date() -> None:
    assert TABLE.read_text() == table(), "run: make contract-table"
