"""Every metric of the cache, declared once with its meaning and unit."""

from prometheus_client import Counter, Gauge

READS = Counter(
    "telemetryflow_cache_reads",
    "Look-ups, by level (l1: memory, l2: Redis) and outcome (hit, miss)",
    ["level", "outcome"],
)
LOADS = Counter(
    "telemetryflow_cache_loads",
    "Values made anew because no level had them, by outcome (ok, failed)",
    ["outcome"],
)
EVICTIONS = Counter(
    "telemetryflow_cache_evictions",
    "Entries that left memory before their time because it was full",
)
TOO_LARGE = Counter(
    "telemetryflow_cache_too_large",
    "Values that were not kept because one alone is too large",
)
DELETIONS_HEARD = Counter(
    "telemetryflow_cache_deletions_heard",
    "Deletions that other processes told of",
)
REDIS_FAILURES = Counter(
    "telemetryflow_cache_redis_failures",
    "Calls of Redis that failed, by kind (lost: no answer, refused: an error as the answer, "
    "crowded: not made, because too many others waited)",
    ["kind"],
)
REDIS_UP = Gauge(
    "telemetryflow_cache_redis_up",
    "1 while Redis is used, 0 while the cache is in memory only",
)


class HitCount:
    """Hits and misses of one level, since the start of the process."""

    def __init__(self, level: str) -> None:
        self._hits = 0
        self._misses = 0
        self._hit_counter = READS.labels(level, "hit")
        self._miss_counter = READS.labels(level, "miss")

    def hit(self) -> None:
        """A look-up found something."""
        self._hits += 1
        self._hit_counter.inc()

    def miss(self) -> None:
        """A look-up found nothing."""
        self._misses += 1
        self._miss_counter.inc()

    @property
    def rate(self) -> float:
        """Share of look-ups that found something, 0 to 1."""
        return self._hits / max(1, self._hits + self._misses)
