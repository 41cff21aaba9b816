"""Metrics of plain numbers, shown as prometheus_client shows its own."""

import uuid
from collections.abc import Sequence

from prometheus_client import REGISTRY, Counter, Histogram, generate_latest

from ingest.plain_metrics import PlainCounter, PlainHistogram

BOUNDS = (0.5, 1, 2.5)


def shown(name: str) -> Sequence[str]:
    """The lines of one metric, without its name and the time of its creation."""
    lines = generate_latest(REGISTRY).decode().splitlines()
    return [line.replace(name, "NAME") for line in lines if name in line and "_created" not in line]


def new_name() -> str:
    return f"test_{uuid.uuid4().hex}"


def test_a_plain_counter_is_shown_like_any_other() -> None:
    plain_name, other_name = new_name(), new_name()
    plain = PlainCounter(plain_name, "What.", "signal", ("logs", "traces"))
    plain.counts["logs"] += 3
    other = Counter(other_name, "What.", ["signal"])
    other.labels("logs").inc(3)
    other.labels("traces")

    assert shown(plain_name) == shown(other_name)


def test_a_plain_histogram_is_shown_like_any_other() -> None:
    plain_name, other_name = new_name(), new_name()
    plain = PlainHistogram(plain_name, "What.", "signal", ("logs",), bounds=BOUNDS)
    other = Histogram(other_name, "What.", ["signal"], buckets=BOUNDS)
    for amount in (0.25, 0.5, 0.75, 2.5, 4.0):
        plain.observe("logs", amount)
        other.labels("logs").observe(amount)

    assert shown(plain_name) == shown(other_name)
