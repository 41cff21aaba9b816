"""`telemetryflow capacity`: how many processes, cores, partitions and bytes a rate of items needs.

The costs stand in `costs.json` beside this module, with where they come from; `make capacity
CAPACITY=--keep-costs` puts those of this machine in their place.
"""

import json
import math
from argparse import Namespace
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from shared.errors import Invalid
from shared.settings import Settings

SIGNALS: Final = ("traces", "logs", "metrics")
# A core is planned to be busy for this part of the time: the rest takes peaks, and what a process
# does that is not its items.
BUSY_PART: Final = 0.6
# What one partition takes: inserts into ClickHouse follow one another in each, at 2.5 s of CPU a
# million spans. Fewer partitions make larger blocks, and so cheaper inserts.
PARTITION_ITEMS_PER_SECOND: Final = 200_000
PARTITIONS_MIN: Final = 6
SECONDS_PER_DAY: Final = 86_400


@dataclass(frozen=True)
class Need:
    """One kind of process: how many of it, and what they use in all."""

    name: str
    processes: int
    cores: float
    memory_mb: int


@dataclass(frozen=True)
class Plan:
    """What a rate of items needs."""

    needs: tuple[Need, ...]
    partitions: int
    log_bytes: float
    stored_bytes: float


def plan(rates: dict[str, float], options: Namespace, costs: dict[str, Any]) -> Plan:
    """What *rates* (items a second by signal) need with the log and the retention of *options*."""
    cpu = costs["cpu_seconds_per_million_items"]
    log = "Kafka" if options.log == "kafka" else "embedded log"

    def cores(*stages: str) -> float:
        seconds = sum(
            rates[signal] / 1e6 * cpu[stage][signal] for stage in stages for signal in rates
        )
        return float(seconds / BUSY_PART)

    needs = []
    for name, stage in (("gateway", f"gateway, {log}"), ("writer", f"writer, {log}")):
        used = cores(stage)
        # One event loop each, and so one core; the embedded log has one writer.
        count = 1 if log == "embedded log" and name == "writer" else max(1, math.ceil(used))
        needs.append(Need(name, count, used, count * costs[f"resident_mb_a_{name}"]))
    needs.append(
        Need("ClickHouse", options.replicas, cores("insert", "merges") * options.replicas, 0)
    )
    total = sum(rates.values())
    copies = options.replicas if log == "Kafka" else 1
    return Plan(
        needs=tuple(needs),
        partitions=max(PARTITIONS_MIN, math.ceil(total / PARTITION_ITEMS_PER_SECOND)),
        log_bytes=copies
        * 3600
        * options.log_hours
        * sum(rate * costs["log_bytes_an_item"][signal] for signal, rate in rates.items()),
        stored_bytes=options.replicas
        * SECONDS_PER_DAY
        * options.retention_days
        * sum(rate * costs["stored_bytes_an_item"][signal] for signal, rate in rates.items()),
    )


def capacity(_settings: Settings, options: Namespace) -> int:
    """Print what the rates of the command line need, and what that rests on."""
    rates = {
        "traces": options.spans_per_second,
        "logs": options.log_records_per_second,
        "metrics": options.points_per_second,
    }
    if min(rates.values()) < 0 or not sum(rates.values()):
        raise Invalid("say what is to be carried, such as --spans-per-second 1000000")
    costs = json.loads(files("control.cli").joinpath("costs.json").read_text())
    found = plan(rates, options, costs)
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for name in ("", "processes", "cores", "memory"):
        table.add_column(name, justify="right" if name else "left")
    for need in found.needs:
        memory = f"{need.memory_mb:,} MB" if need.memory_mb else ""
        table.add_row(need.name, str(need.processes), f"{need.cores:.1f}", memory)
    console.print(table)
    if options.log == "kafka":
        console.print(f"\npartitions of each topic: {found.partitions}")
    console.print(
        f"log, {options.log_hours:g} h: {_size(found.log_bytes)}; "
        f"ClickHouse, {options.retention_days:g} days: {_size(found.stored_bytes)}"
    )
    console.print(_assumptions(costs, options))
    return 0


def _assumptions(costs: dict[str, Any], options: Namespace) -> str:
    copies = "one copy" if options.replicas == 1 else f"{options.replicas} copies"
    return (
        f"\nThis rests on costs measured on: {costs['measured']}.\n"
        "Requests hold hundreds of items: spans of 550 bytes, log records of 320, points of 190.\n"
        f"A core is busy {BUSY_PART:.0%} of the time. Kept: {copies} of all data. Queries come\n"
        "on top. Measure your own machine with `make capacity`."
    )


def _size(count: float) -> str:
    for unit in ("MB", "GB", "TB"):
        if count < 1e9 or unit == "TB":
            return f"{count / 1e6:,.1f} {unit}"
        count /= 1e3
    return ""
