-- Log records, and what is derived from them at insert.

CREATE TABLE IF NOT EXISTS ${database}.tf_logs
(
    TenantId                 LowCardinality(String) CODEC(ZSTD(1)),
    RetentionDays            UInt16 CODEC(ZSTD(1)),
    Timestamp                DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    ObservedTimestamp        DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId                  FixedString(16) CODEC(ZSTD(1)),
    SpanId                   FixedString(8) CODEC(ZSTD(1)),
    Flags                    UInt32 CODEC(ZSTD(1)),
    SeverityText             LowCardinality(String) CODEC(ZSTD(1)),
    SeverityNumber           UInt8 CODEC(ZSTD(1)),
    Body                     String CODEC(ZSTD(1)),
    ServiceName              LowCardinality(String) CODEC(ZSTD(1)),
    ResourceSchemaUrl        LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes       Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    ResourceDroppedAttrCount UInt32 CODEC(ZSTD(1)),
    ResourceEntityRefs       LowCardinality(String) CODEC(ZSTD(1)),
    ScopeSchemaUrl           LowCardinality(String) CODEC(ZSTD(1)),
    ScopeName                LowCardinality(String) CODEC(ZSTD(1)),
    ScopeVersion             LowCardinality(String) CODEC(ZSTD(1)),
    ScopeAttributes          Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    ScopeDroppedAttrCount    UInt32 CODEC(ZSTD(1)),
    LogAttributes            Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    DroppedAttributesCount   UInt32 CODEC(ZSTD(1)),
    EventName                LowCardinality(String) CODEC(ZSTD(1)),
    INDEX idx_trace_id if(lower(hex(TraceId)) = '00000000000000000000000000000000', '', lower(hex(TraceId))) TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_body Body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 1,
    INDEX idx_log_attr_value mapValues(LogAttributes) TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ${MergeTree}
PARTITION BY (toDate(Timestamp), RetentionDays)
ORDER BY (TenantId, Timestamp)
TTL toDateTime(Timestamp) + toIntervalDay(RetentionDays)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, propagate_types_serialization_versions_to_nested_types = 0,
    ${deduplication};

-- Volume per service, severity and minute.
CREATE TABLE IF NOT EXISTS ${database}.tf_log_volume_1m
(
    TenantId LowCardinality(String),
    ServiceName LowCardinality(String),
    SeverityNumber UInt8,
    Minute DateTime CODEC(Delta(4), ZSTD(1)),
    Logs SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1))
)
ENGINE = ${AggregatingMergeTree}
PARTITION BY toDate(Minute)
ORDER BY (TenantId, ServiceName, SeverityNumber, Minute)
TTL Minute + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_log_volume_1m_mv TO ${database}.tf_log_volume_1m AS
SELECT TenantId, ServiceName, SeverityNumber, toStartOfMinute(Timestamp) AS Minute, count() AS Logs FROM ${database}.tf_logs GROUP BY TenantId, ServiceName, SeverityNumber, Minute;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_attr_keys_logs_mv TO ${database}.tf_attr_keys AS
SELECT TenantId, 'logs' AS Signal, arrayJoin(Ks) AS Key, Day, sum(c) AS Items
FROM (SELECT TenantId, mapKeys(LogAttributes) AS Ks, toDate(Timestamp) AS Day, count() AS c FROM ${database}.tf_logs WHERE toUnixTimestamp64Nano(Timestamp) % 16 = 0 GROUP BY TenantId, Ks, Day)
GROUP BY TenantId, Key, Day;
