"""Is it slower than before? By ratios, since two runs never meet the same machine.

The yardstick is what did not change: the peers of both runs, or all figures where there are too few
peers. A figure is slower when it grew more than the yardstick did, beyond the spread of its own
rounds.
"""

from collections.abc import Mapping
from statistics import median
from typing import Any, Final

PEERS: Final = ("collector", "rotel", "end to end, Rotel", "plain Python", "grpc.aio")
# What is measured for its latency, at rates that differ from run to run.
RATES: Final = ("load ", "ramp")
PEERS_MIN: Final = 3
NOISE_MIN: Final = 0.15


def slower(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One sentence for each figure that got slower."""
    pairs = dict(_pairs(before["figures"], now["figures"]))
    peers = [new / old for name, (old, new, _) in pairs.items() if name.startswith(PEERS)]
    yardstick = peers if len(peers) >= PEERS_MIN else [new / old for old, new, _ in pairs.values()]
    if not yardstick:
        return []
    mood = median(yardstick)
    return [
        f"{name}: {new:.2f} instead of {old:.2f} s per million items, where the machine explains "
        f"a factor of {mood:.2f} and noise of {noise:.0%}"
        for name, (old, new, noise) in pairs.items()
        if new / old / mood > 1 + noise
    ]


def _pairs(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[tuple[str, tuple[float, float, float]]]:
    """(scenario and process, (CPU before, CPU now, noise)) of what both have measured."""
    found = []
    for name in before.keys() & now.keys():
        if name.startswith(RATES):
            continue
        old, new = before[name], now[name]
        for process in sorted(old["cpu"].keys() & new["cpu"].keys()):
            if old["cpu"][process] <= 0 or new["cpu"][process] <= 0:
                continue
            noise = max(NOISE_MIN, _spread(old, process), _spread(new, process))
            found.append((f"{name}, {process}", (old["cpu"][process], new["cpu"][process], noise)))
    return sorted(found)


def _spread(figures: Mapping[str, Any], process: str) -> float:
    most, least = figures["cpu_most"][process], figures["cpu_least"][process]
    return float((most - least) / figures["cpu"][process])
