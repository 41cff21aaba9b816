"""Trees of spans, whatever their times and parents."""

from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from control.telemetry.queries.waterfall import critical_path, waterfall_of

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "span": st.integers(1, 12).map(str),
            "parent": st.integers(0, 14).map(lambda number: str(number) if number else ""),
            "start_ns": st.integers(0, 50),
            "duration_ns": st.integers(0, 50),
            "service": st.just("web"),
        }
    ),
    min_size=1,
    max_size=14,
)


@given(rows=ROWS)
def test_every_span_is_shown_once_whatever_its_parents_are(rows: list[dict[str, Any]]) -> None:
    found = waterfall_of(rows)

    assert Counter(id(node.row) for node in found.nodes) == Counter(map(id, rows))
    for node in found.nodes:
        assert all(child.depth == node.depth + 1 for child in node.children)


@given(rows=ROWS)
def test_the_critical_path_adds_up_to_its_root_without_overlap(rows: list[dict[str, Any]]) -> None:
    for root in (node for node in waterfall_of(rows).nodes if node.depth == 0):
        pieces = sorted((start, end) for _node, start, end in critical_path(root))

        assert sum(end - start for start, end in pieces) == root.end_ns - root.start_ns
        assert all(one[1] <= two[0] for one, two in pairwise(pieces))


def test_a_chain_of_ten_thousand_spans_is_a_tree() -> None:
    rows = [
        {
            "span": str(number + 1),
            "parent": str(number) if number else "",
            "start_ns": number,
            "duration_ns": 30_000 - 2 * number,
            "service": "web",
        }
        for number in range(10_000)
    ]

    found = waterfall_of(rows)

    assert found.nodes[-1].depth == 9_999
    assert sum(node.critical_ns for node in found.nodes) == 30_000
