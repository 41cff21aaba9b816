-- A sample of the items that were rejected one by one, for whoever owns the exporter: what it was
-- called, when, and why. Of attributes only the keys: values may be secrets.

CREATE TABLE IF NOT EXISTS ${database}.tf_rejected
(
    TenantId LowCardinality(String),
    Minute DateTime CODEC(Delta(4), ZSTD(1)),
    Signal LowCardinality(String),
    Reason LowCardinality(String),
    ServiceName String CODEC(ZSTD(1)),
    Name String CODEC(ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    TimeUnixNano UInt64 CODEC(ZSTD(1)),
    AttributeKeys Array(String) CODEC(ZSTD(1))
)
ENGINE = ${MergeTree}
PARTITION BY toDate(Minute)
ORDER BY (TenantId, Minute, Signal, Reason)
TTL Minute + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, ${deduplication};
