-- What was stored, by hour, tenant, key and signal; who counts and how stands in ingest/ledger.

CREATE TABLE IF NOT EXISTS ${database}.tf_usage
(
    Hour DateTime CODEC(Delta(4), ZSTD(1)),
    TenantId LowCardinality(String),
    KeyId String CODEC(ZSTD(1)),
    Signal LowCardinality(String),
    Items UInt64 CODEC(T64, ZSTD(1)),
    Bytes UInt64 CODEC(T64, ZSTD(1)),
    LastMinute SimpleAggregateFunction(max, DateTime) CODEC(Delta(4), ZSTD(1)),
    ToldAt SimpleAggregateFunction(max, DateTime) DEFAULT now() CODEC(Delta(4), ZSTD(1))
)
ENGINE = ${SummingMergeTree}
PARTITION BY toYYYYMM(Hour)
ORDER BY (TenantId, Hour, KeyId, Signal)
TTL Hour + INTERVAL 25 MONTH
SETTINGS ttl_only_drop_parts = 1, ${deduplication};

CREATE VIEW IF NOT EXISTS ${database}.usage AS
SELECT
    Hour,
    TenantId,
    KeyId,
    Signal,
    sum(tf_usage.Items) AS Items,
    sum(tf_usage.Bytes) AS Bytes
FROM ${database}.tf_usage
GROUP BY Hour, TenantId, KeyId, Signal;
