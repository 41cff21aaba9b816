"""The attacks of full size: each stands in the report with its figures."""

from pathlib import Path

import pytest

from tests.attacks.waves import TLS_WAVES, WAVES

REPORT = Path(__file__).parents[2] / "docs" / "security" / "data-plane.md"


@pytest.mark.parametrize("name", [*WAVES, *TLS_WAVES])
def test_an_attack_of_full_size_has_a_row_in_the_report(name: str) -> None:
    assert f"| {name.replace('_', ' ')} |" in REPORT.read_text()
