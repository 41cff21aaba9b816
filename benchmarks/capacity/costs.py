"""What `telemetryflow capacity` counts with, from a result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

COSTS_FILE: Final = Path(__file__).parents[2] / "control/cli/costs.json"
# Stage -> (scenario, process).
_STAGES: Final = {
    "gateway, embedded log": ("gateway → embedded log/grpc/{}/500", "gateway"),
    "gateway, Kafka": ("gateway → Kafka/grpc/{}/500", "gateway"),
    "writer, embedded log": ("end to end, embedded log/grpc/{}/500", "writer"),
    "writer, Kafka": ("end to end, Kafka/grpc/{}/500", "writer"),
}
# Without merges, which the file counts apart; the writer's INSERTs are about so large.
_INSERT: Final = "INSERT of {}, 100,000 rows at once, CPU seconds per million"


def keep_costs(result: Mapping[str, Any]) -> None:
    """Write what was measured into the file; what was not stays as it is there."""
    costs = json.loads(COSTS_FILE.read_text())
    costs["measured"] = (
        f"{result['machine']['processor']}, {result['began'][:10]}, beside a busy core; "
        "merges, and writers of logs and metrics on Kafka, are estimates"
    )
    for stage, (scenario, process) in _STAGES.items():
        kept = costs["cpu_seconds_per_million_items"][stage]
        for signal in kept:
            found = result["figures"].get(scenario.format(signal))
            if found:
                kept[signal] = round(found["cpu"][process], 2)
    inserted = costs["cpu_seconds_per_million_items"]["insert"]
    for signal in inserted:
        found = result["values"].get(_INSERT.format(signal))
        if found:
            inserted[signal] = round(found, 2)
    COSTS_FILE.write_text(json.dumps(costs, indent=1) + "\n")
