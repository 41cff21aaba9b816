-- Which hours of which table rollups.py has rolled up already.

CREATE TABLE IF NOT EXISTS ${database}.tf_rollup_runs
(
    Source LowCardinality(String),
    Hour DateTime CODEC(Delta(4), ZSTD(1)),
    RunAt DateTime DEFAULT now() CODEC(Delta(4), ZSTD(1))
)
ENGINE = ${ReplacingMergeTree}
PARTITION BY toYYYYMM(Hour)
ORDER BY (Source, Hour)
TTL Hour + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, ${deduplication};
