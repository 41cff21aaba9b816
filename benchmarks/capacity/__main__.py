"""`make capacity`: measure, and write a report as JSON and as a page with plots.

    python -m benchmarks.capacity [--only receive embedded …] [--collector FILE] [--baseline FILE]

Everything runs on this machine and ends by itself. Half of the cores run what is measured, the
other half the load and the engines.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.capacity import scenarios
from benchmarks.capacity.baseline import slower
from benchmarks.capacity.costs import keep_costs
from benchmarks.capacity.measure import cores, slowdown_by_neighbours
from benchmarks.capacity.report import page

CACHED_COLLECTOR: Final = Path.home() / ".cache/telemetryflow/peers/otelcol"


def main() -> int:
    """Measure what was asked for; 1 when something is slower than in the baseline."""
    options = _parser().parse_args()
    collector = options.collector or CACHED_COLLECTOR
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="telemetryflow-capacity-") as folder:
        bench = scenarios.Bench(
            Path(folder),
            collector=collector if collector.is_file() else None,
            rounds=options.rounds,
            size=options.size,
            soak_seconds=options.soak_seconds,
        )
        for name in options.only or scenarios.ALL:
            print(name, flush=True)
            scenarios.ALL[name](bench)
    result = {
        "machine": _machine(),
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "seconds": round(time.time() - began),
        "figures": {name: asdict(figures) for name, figures in bench.figures.items()},
        "values": bench.values,
        "missing": bench.missing,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "capacity.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "capacity.html").write_text(page(result))
    print(f"written: {options.out / 'capacity.json'}, {options.out / 'capacity.html'}")
    if options.keep_costs:
        keep_costs(result)
    if options.baseline is None:
        return 0
    found = slower(json.loads(options.baseline.read_text()), result)
    for line in found:
        print(f"slower than the baseline: {line}")
    return 1 if found else 0


def _machine() -> dict[str, Any]:
    measured, other = cores()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_measured": measured,
        "cores_of_load_and_engines": other,
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "disk_free_bytes": shutil.disk_usage(tempfile.gettempdir()).free,
        "load_average": os.getloadavg(),
        "slowdown_by_neighbours": slowdown_by_neighbours(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.capacity", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=scenarios.ALL, help="these scenarios")
    parser.add_argument("--out", type=Path, default=Path("build/capacity"), help="folder")
    parser.add_argument("--collector", type=Path, help=f"otelcol; else {CACHED_COLLECTOR}")
    parser.add_argument("--baseline", type=Path, help="an earlier capacity.json")
    parser.add_argument("--keep-costs", action="store_true", help="for `telemetryflow capacity`")
    parser.add_argument("--rounds", type=int, default=3, help="of each load")
    parser.add_argument("--size", type=float, default=1.0, help="factor of requests a round")
    parser.add_argument("--soak-seconds", type=float, default=0.0, help="0 leaves the soak out")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
