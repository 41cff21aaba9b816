"""A trace as a tree: order, depth, self time, critical path, gaps. No I/O.

Spans come as rows with `span`, `parent`, `start_ns`, `duration_ns`. What is odd stays visible: a
span whose parent is not there becomes a root, and so does one in a circle of parents.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Row = Mapping[str, Any]

# A time in which no child of a span runs is a gap when it is so much of the trace.
GAP_SHARE_MIN: Final = 0.05


@dataclass
class Node:
    """A span in its tree."""

    row: Row
    depth: int = 0
    is_orphan: bool = False
    children: list["Node"] = field(default_factory=list)
    critical_ns: int = 0

    @property
    def start_ns(self) -> int:
        """When it began."""
        return int(self.row["start_ns"])

    @property
    def end_ns(self) -> int:
        """When it ended."""
        return self.start_ns + int(self.row["duration_ns"])

    def uncovered(self) -> Iterator[tuple[int, int]]:
        """The times of the span during which none of its children ran."""
        at = self.start_ns
        for child in sorted(self.children, key=lambda one: one.start_ns):
            if at < min(child.start_ns, self.end_ns):
                yield at, min(child.start_ns, self.end_ns)
            at = max(at, child.end_ns)
        if at < self.end_ns:
            yield at, self.end_ns

    @property
    def self_ns(self) -> int:
        """How long it ran without any child."""
        return sum(end - start for start, end in self.uncovered())


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which a span with children ran and none of them did."""

    span: str
    start_ns: int
    end_ns: int


@dataclass
class Waterfall:
    """All spans, parents before children, and what follows from their times."""

    nodes: list[Node]
    start_ns: int
    end_ns: int
    gaps: list[Gap]


def waterfall_of(rows: Sequence[Row]) -> Waterfall:
    """The tree of *rows*, of which there is at least one."""
    nodes = [Node(row) for row in sorted(rows, key=lambda one: (one["start_ns"], one["span"]))]
    roots = _linked(nodes)
    ordered = _in_order(roots)
    for root in roots:
        for node, start, end in critical_path(root):
            node.critical_ns += end - start
    start = min(node.start_ns for node in nodes)
    end = max(node.end_ns for node in nodes)
    gaps = [
        Gap(node.row["span"], one_start, one_end)
        for node in ordered
        if node.children
        for one_start, one_end in node.uncovered()
        if one_end - one_start >= max((end - start) * GAP_SHARE_MIN, 1)
    ]
    return Waterfall(ordered, start, end, gaps)


def _linked(nodes: Sequence[Node]) -> list[Node]:
    """The roots, after each node was given its children."""
    by_id: dict[str, Node] = {}
    for node in nodes:
        by_id.setdefault(node.row["span"], node)
    roots = []
    for node in nodes:
        parent = by_id.get(node.row["parent"]) if node.row["parent"] else None
        if parent is None or parent is node:
            node.is_orphan = bool(node.row["parent"])
            roots.append(node)
        else:
            parent.children.append(node)
    seen = {id(node) for node in _in_order(roots)}
    for node in nodes:
        if id(node) not in seen:  # in a circle, which is cut where it began first
            by_id[node.row["parent"]].children.remove(node)
            node.is_orphan = True
            roots.append(node)
            seen.update(id(one) for one in _in_order([node]))
    return sorted(roots, key=lambda one: one.start_ns)


def _in_order(roots: Sequence[Node]) -> list[Node]:
    """Parents before children, earlier children before later ones."""
    ordered = []
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        ordered.append(node)
        for child in node.children:
            child.depth = node.depth + 1
        stack.extend(reversed(node.children))
    return ordered


@dataclass
class _Walk:
    """A span on the way back from its end: *at* goes from *high* down to *low*."""

    node: Node
    low: int
    high: int
    at: int
    children: Iterator[Node]


def critical_path(root: Node) -> list[tuple[Node, int, int]]:
    """Which span held up the root, and when: the pieces add up to the root's duration.

    Backwards from the end: whatever child ended last is what was waited for. A child that outlives
    its parent counts up to the parent's end.
    """
    pieces: list[tuple[Node, int, int]] = []
    stack = [_walk(root, root.start_ns, root.end_ns)]
    while stack:
        walk = stack[-1]
        child = next(walk.children, None)
        if child is None:
            if walk.at > walk.low:
                pieces.append((walk.node, walk.low, walk.at))
            stack.pop()
            continue
        start, end = max(child.start_ns, walk.low), min(child.end_ns, walk.high)
        if end > walk.at or start >= end:
            continue
        if end < walk.at:
            pieces.append((walk.node, end, walk.at))
        walk.at = start
        stack.append(_walk(child, start, end))
    return pieces


def _walk(node: Node, low: int, high: int) -> _Walk:
    latest_first = sorted(node.children, key=lambda one: (one.end_ns, one.start_ns), reverse=True)
    return _Walk(node, low, high, high, iter(latest_first))


def services_of(nodes: Sequence[Node]) -> dict[str, int]:
    """How many spans each service has."""
    counts: dict[str, int] = defaultdict(int)
    for node in nodes:
        counts[node.row["service"]] += 1
    return dict(counts)
