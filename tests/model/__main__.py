"""`python -m tests.model`: explore everything, and write what was found into the documentation."""

from pathlib import Path
from typing import Final

from tests.model.explore import explore
from tests.model.mutants import LIMITS, MUTANTS, WORLDS, Mutant

PAGE: Final = Path(__file__).parents[2] / "docs" / "exactly-once.md"
BEGIN: Final = "<!-- written by: python -m tests.model -->\n"
END: Final = "<!-- end -->\n"


def page() -> str:
    """The page of the documentation, with tables that are current."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{_tables()}{END}{after}"


def _tables() -> str:
    worlds = [
        f"| {name} | {', '.join(sorted(bounds.faults))} | {bounds.faults_max} "
        f"| {explore(bounds).states:,} |"
        for name, bounds in WORLDS.items()
    ]
    return "\n".join(
        [
            "\n| world | faults | at most | states, all good |\n|---|---|---|---|",
            *worlds,
            "\nA rule is switched off:\n",
            *_histories(MUTANTS),
            "\nWhat no rule of the writer covers:\n",
            *_histories(LIMITS),
            "\n",
        ]
    )


def _histories(mutants: tuple[Mutant, ...]) -> list[str]:
    lines = ["| invariant | mutant | what breaks | shortest history |", "|---|---|---|---|"]
    for mutant in mutants:
        found = mutant.explored()
        history = "; ".join(found.trace) or "from the beginning"
        lines.append(f"| {mutant.invariant} | {mutant.name} | {found.violation} | {history} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page())
