"""The report of a campaign: Markdown for people, JSON lines beside it for programs."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median

import orjson

from tests.chaos.campaign.runs import RECOVERY_SECONDS_MAX, Result


def write_report(path: Path, results: Sequence[Result], *, log: str) -> None:
    """Write *path* and the JSON lines beside it, whole each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [orjson.dumps(asdict(result) | {"good": result.good}) + b"\n" for result in results]
    path.with_suffix(".jsonl").write_bytes(b"".join(lines))
    path.write_text(_markdown(results, log))


def _markdown(results: Sequence[Result], log: str) -> str:
    recoveries = [result.recovery_seconds for result in results]
    recovery = f"{median(recoveries):.1f} s, {max(recoveries):.1f} s"
    versions = f"chdb-core {version('chdb-core')}, aiokafka {version('aiokafka')}"
    totals = {
        "seeds": len(results),
        "faults": sum(len(result.faults) for result in results),
        "items acknowledged": sum(result.acked for result in results),
        "items stored": sum(result.stored for result in results),
        "lost": sum(result.lost for result in results),
        "stored twice": sum(result.twice for result in results),
        "under a wrong tenant": sum(result.of_wrong_tenant for result in results),
        "requests": sum(result.requests for result in results),
        "tries that were repeated": sum(result.retries for result in results),
        "seconds in all": round(sum(result.seconds for result in results)),
    }
    where = {"kafka": "Kafka, two gateways, two to three writers", "embedded": "the embedded log"}
    return "\n".join(
        [
            f"# Chaos campaign on {where[log]}",
            "",
            "Clients send items while processes are killed, frozen and restarted, connections are",
            "cut and held, and answers are lost. Afterwards each item must be stored exactly once,",
            "under its tenant; no process complains; and all is counted again at the very end.",
            "Recovery is the time from the last fault until everything is stored, at least a tenth",
            f"of it sent after that fault; at most {RECOVERY_SECONDS_MAX:.0f} s are allowed.",
            "",
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {versions}.",
            "",
            "| | |",
            "|---|---:|",
            *(f"| {name} | {count:,} |" for name, count in totals.items()),
            f"| recovery, median and longest | {recovery} |",
            f"| most descriptors of a process | {max(result.fds for result in results)} |",
            f"| most memory of a process | {max(result.rss_mb for result in results)} MB |",
            f"| failed seeds | {sum(not result.good for result in results)} |",
            "",
            "| seed | faults | acked | stored | lost | twice | retries | recovery s |",
            "|---:|---|---:|---:|---:|---:|---:|---:|",
            *map(_row, results),
            "",
        ]
    )


def _row(result: Result) -> str:
    counts = (result.acked, result.stored, result.lost, result.twice, result.retries)
    cells = (result.seed, "; ".join(result.faults), *counts, f"{result.recovery_seconds:.1f}")
    return f"| {' | '.join(map(str, cells))} |"
