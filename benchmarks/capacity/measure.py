"""One measurement: a load on a server, and what each process spent on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Final, Protocol

import psutil

from benchmarks.capacity.load import SECONDS_MAX, Options, quantile_ms

ROUNDS: Final = 3
# Of a round, so many requests warm up: code is compiled, buffers have grown, caches are filled.
WARM_UP_PART: Final = 4
_WORK: Final = (
    "run = lambda: (time.process_time(), sum(each * each for each in range(2_000_000)))[0]",
    "print(min(-run() + time.process_time() for _ in range(5)))",
)


class Stored(Protocol):
    """Knows when rows can be queried."""

    def begin(self) -> None:
        """A round begins."""

    def settle(self, rows: int) -> None:
        """Returns when so many more rows can be queried."""


@dataclass(frozen=True)
class Spent:
    """What a process has used so far."""

    cpu_seconds: float
    switches: int

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(self.cpu_seconds - before.cpu_seconds, self.switches - before.switches)


@dataclass(frozen=True)
class Round:
    """One round: what the sender tells of it, and what each process used and holds by its end."""

    sent: Mapping[str, Any]
    used: Mapping[str, Spent]
    rss_bytes: Mapping[str, int]


@dataclass
class Figures:
    """Medians over rounds, of one load. CPU is in seconds per million items, by process."""

    rounds: int
    cpu: dict[str, float] = field(default_factory=dict)
    cpu_least: dict[str, float] = field(default_factory=dict)
    cpu_most: dict[str, float] = field(default_factory=dict)
    microseconds_a_request: dict[str, float] = field(default_factory=dict)
    switches_a_request: dict[str, float] = field(default_factory=dict)
    rss_bytes_max: dict[str, int] = field(default_factory=dict)
    items_a_second: float = 0.0
    bytes_an_item: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=dict)
    # From the answer until it can be queried, where that was looked at (`visibility`).
    visible_ms: dict[str, float] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    generator_cpu: float = 0.0


def cores() -> tuple[list[int], list[int]]:
    """(cores of what is measured, cores of the load and of engines): half and half."""
    found = sorted(os.sched_getaffinity(0))
    middle = len(found) // 2
    return found[middle:], found[:middle] or found


def slowdown_by_neighbours() -> float:
    """How many times longer the cores of what is measured take while the others are busy too.

    Cores of a virtual machine are often halves of one real core: then it is nearly two, and what a
    figure says is the cost on a busy machine.
    """
    own, other = cores()
    if set(own) == set(other):
        return 1.0
    alone = _work_seconds(own)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in other]
    try:
        for process in busy:
            pin(process.pid, other)
        return _work_seconds(own) / alone
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _work_seconds(to: list[int]) -> float:
    """CPU seconds of always the same work on these cores: the least of several."""
    program = "import time; " + "; ".join(_WORK)
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, to),
    )
    return float(done.stdout)


def pin(pid: int, to: list[int]) -> None:
    """Keep a process, its threads and its children on these cores."""
    for one in (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))):
        for thread in psutil.Process(one).threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, to)


def send(options: Options) -> dict[str, Any]:
    """Runs the load generator, on its own cores, to its end."""
    _, own = cores()
    command = [sys.executable, "-m", "benchmarks.capacity.load", json.dumps(asdict(options))]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        timeout=SECONDS_MAX + 60,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, own),
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def spent(pid: int) -> Spent:
    """By a process and its children."""
    process = psutil.Process(pid)
    cpu, switches = 0.0, 0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times, changes = one.cpu_times(), one.num_ctx_switches()
            cpu += times.user + times.system
            switches += changes.voluntary + changes.involuntary
    return Spent(cpu, switches)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its children now."""
    process = psutil.Process(pid)
    total = 0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return total


def measure(
    options: Options,
    pids: Mapping[str, int],
    *,
    rounds: int = ROUNDS,
    stored: Stored | None = None,
) -> Figures:
    """Medians over *rounds* of that load on servers that run as *pids*, after a warm-up.

    With *stored*, a round ends when all that was acknowledged can be queried: what is still under
    way behind the answers belongs to it.
    """
    warm = options.requests // WARM_UP_PART or 1
    _round(options, pids, warm, 0, stored)
    found = [_round(options, pids, options.requests, 1 + each, stored) for each in range(rounds)]
    return figures_of(found, options.items)


def figures_of(rounds: Sequence[Round], items_a_request: int) -> Figures:
    """Medians over *rounds* of the same load."""
    figures = Figures(len(rounds))
    for name in rounds[0].used:
        used = sorted(one.used[name].cpu_seconds * 1e6 / _items(one) for one in rounds)
        figures.cpu[name] = median(used)
        figures.cpu_least[name], figures.cpu_most[name] = used[0], used[-1]
        figures.microseconds_a_request[name] = median(used) * items_a_request
        figures.switches_a_request[name] = median(
            one.used[name].switches * items_a_request / _items(one) for one in rounds
        )
        figures.rss_bytes_max[name] = max(one.rss_bytes[name] for one in rounds)
    _fill(figures, [one.sent for one in rounds])
    return figures


def _items(one: Round) -> int:
    return max(1, int(one.sent["items"]))


def _fill(figures: Figures, results: Sequence[Mapping[str, Any]]) -> None:
    buckets: dict[int, int] = {}
    for result in results:
        for outcome, count in result.get("answered", {}).items():
            figures.answered[outcome] = figures.answered.get(outcome, 0) + count
        for bucket, count in result.get("buckets", {}).items():
            buckets[int(bucket)] = buckets.get(int(bucket), 0) + count
        figures.dropped += result.get("dropped", 0)
    figures.items_a_second = median(
        result["items"] / result["seconds"] if result["seconds"] else 0.0 for result in results
    )
    figures.bytes_an_item = median(result["bytes"] / max(1, result["items"]) for result in results)
    figures.generator_cpu = median(
        result.get("cpu_seconds", 0.0) * 1e6 / max(1, result["items"]) for result in results
    )
    for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)):
        figures.latency_ms[name] = quantile_ms(buckets, part)


def _round(
    options: Options, pids: Mapping[str, int], requests: int, number: int, stored: Stored | None
) -> Round:
    before = {name: spent(pid) for name, pid in pids.items()}
    seed = time.time_ns() % 1_000_000_000 + number
    if stored is not None:
        stored.begin()
    result = send(replace(options, requests=requests, seed=seed))
    if stored is not None:
        stored.settle(result["answered"].get("ok", 0) * options.items)
    after = {name: spent(pid) for name, pid in pids.items()}
    memory = {name: rss_bytes(pid) for name, pid in pids.items()}
    return Round(result, {name: after[name] - before[name] for name in pids}, memory)
