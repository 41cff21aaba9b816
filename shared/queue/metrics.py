"""Metrics of jobs, each declared once."""

from typing import Final

from prometheus_client import Counter, Histogram

JOBS: Final = Counter(
    "telemetryflow_jobs_total", "Attempts of jobs, by how they ended", ["queue", "result"]
)
JOB_SECONDS: Final = Histogram(
    "telemetryflow_job_seconds",
    "How long an attempt took",
    ["queue"],
    buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300),
)
