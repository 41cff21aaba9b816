-- Spans, and what is derived from them at insert. Why each choice: docs/clickhouse-schema.md.

CREATE TABLE IF NOT EXISTS ${database}.tf_traces
(
    TenantId                 LowCardinality(String) CODEC(ZSTD(1)),
    RetentionDays            UInt16 CODEC(ZSTD(1)),
    Timestamp                DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId                  FixedString(16) CODEC(ZSTD(1)),
    SpanId                   FixedString(8) CODEC(ZSTD(1)),
    ParentSpanId             FixedString(8) CODEC(ZSTD(1)),
    TraceState               LowCardinality(String) CODEC(ZSTD(1)),
    Flags                    UInt32 CODEC(ZSTD(1)),
    SpanName                 LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind                 LowCardinality(String) CODEC(ZSTD(1)),
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
    SpanAttributes           Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    DroppedAttributesCount   UInt32 CODEC(ZSTD(1)),
    Duration                 UInt64 CODEC(T64, ZSTD(1)),
    StatusCode               LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage            LowCardinality(String) CODEC(ZSTD(1)),
    Events Nested
    (
        Timestamp DateTime64(9),
        Name LowCardinality(String),
        Attributes Map(LowCardinality(String), String),
        DroppedAttributesCount UInt32
    ) CODEC(ZSTD(1)),
    DroppedEventsCount       UInt32 CODEC(ZSTD(1)),
    Links Nested
    (
        TraceId String,
        SpanId String,
        TraceState String,
        Attributes Map(LowCardinality(String), String),
        DroppedAttributesCount UInt32,
        Flags UInt32
    ) CODEC(ZSTD(1)),
    DroppedLinksCount        UInt32 CODEC(ZSTD(1)),
    INDEX idx_trace_id lower(hex(TraceId)) TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_duration Duration TYPE minmax GRANULARITY 1
)
ENGINE = ${MergeTree}
PARTITION BY (toDate(Timestamp), RetentionDays)
ORDER BY (TenantId, ServiceName, toStartOfFiveMinutes(Timestamp), Timestamp)
TTL toDateTime(Timestamp) + toIntervalDay(RetentionDays)
SETTINGS index_granularity = 4096, ttl_only_drop_parts = 1, propagate_types_serialization_versions_to_nested_types = 0,
    ${deduplication};

-- Trace id to time range: one row per trace and insert, aggregated when read.
CREATE TABLE IF NOT EXISTS ${database}.tf_trace_ts
(
    H UInt64 CODEC(ZSTD(1)),
    Start DateTime CODEC(Delta(4), ZSTD(1)),
    End DateTime CODEC(Delta(4), ZSTD(1)),
    RetentionDays UInt16 CODEC(ZSTD(1))
)
ENGINE = ${MergeTree}
PARTITION BY (toDate(Start), RetentionDays)
ORDER BY H
TTL Start + toIntervalDay(RetentionDays)
SETTINGS ttl_only_drop_parts = 1, ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_trace_ts_mv TO ${database}.tf_trace_ts AS
SELECT cityHash64(TenantId, TraceId) AS H, min(Timestamp) AS Start, max(Timestamp) AS End, RetentionDays
FROM ${database}.tf_traces GROUP BY H, RetentionDays;

-- Rate, errors and durations per service and minute.
CREATE TABLE IF NOT EXISTS ${database}.tf_red_1m
(
    TenantId LowCardinality(String),
    ServiceName LowCardinality(String),
    Minute DateTime CODEC(Delta(4), ZSTD(1)),
    Spans SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    Errors SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    DurationSum SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    DurationMax SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1)),
    DurationQ AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), UInt64) CODEC(ZSTD(1))
)
ENGINE = ${AggregatingMergeTree}
PARTITION BY toDate(Minute)
ORDER BY (TenantId, ServiceName, Minute)
TTL Minute + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_red_1m_mv TO ${database}.tf_red_1m AS
SELECT TenantId, ServiceName, toStartOfMinute(Timestamp) AS Minute, count() AS Spans, countIf(StatusCode = 'Error') AS Errors,
       sum(Duration) AS DurationSum, max(Duration) AS DurationMax, quantilesTDigestState(0.5, 0.9, 0.99)(Duration) AS DurationQ
FROM ${database}.tf_traces GROUP BY TenantId, ServiceName, Minute;

-- Operations: counts per 5 minutes. Percentiles of one operation come from tf_traces.
CREATE TABLE IF NOT EXISTS ${database}.tf_ops_5m
(
    TenantId LowCardinality(String),
    ServiceName LowCardinality(String),
    SpanName LowCardinality(String),
    SpanKind LowCardinality(String),
    Slot DateTime CODEC(Delta(4), ZSTD(1)),
    Spans SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    Errors SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    DurationSum SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    DurationMax SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1))
)
ENGINE = ${AggregatingMergeTree}
PARTITION BY toDate(Slot)
ORDER BY (TenantId, ServiceName, SpanName, SpanKind, Slot)
TTL Slot + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_ops_5m_mv TO ${database}.tf_ops_5m AS
SELECT TenantId, ServiceName, SpanName, SpanKind, toStartOfFiveMinutes(Timestamp) AS Slot, count() AS Spans,
       countIf(StatusCode = 'Error') AS Errors, sum(Duration) AS DurationSum, max(Duration) AS DurationMax
FROM ${database}.tf_traces GROUP BY TenantId, ServiceName, SpanName, SpanKind, Slot;

-- Services and operations by day: chained to tf_ops_5m, whose blocks are small.
CREATE TABLE IF NOT EXISTS ${database}.tf_services
(
    TenantId LowCardinality(String),
    ServiceName LowCardinality(String),
    SpanName LowCardinality(String),
    SpanKind LowCardinality(String),
    Day Date CODEC(ZSTD(1)),
    Spans SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1))
)
ENGINE = ${AggregatingMergeTree}
PARTITION BY toYYYYMM(Day)
ORDER BY (TenantId, ServiceName, SpanName, SpanKind, Day)
TTL Day + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_services_mv TO ${database}.tf_services AS
SELECT TenantId, ServiceName, SpanName, SpanKind, toDate(Slot) AS Day, sum(Spans) AS Spans
FROM ${database}.tf_ops_5m GROUP BY TenantId, ServiceName, SpanName, SpanKind, Day;

-- Attribute keys of 1/16 of the rows and short values of 1/128: a catalogue, not a count.
CREATE TABLE IF NOT EXISTS ${database}.tf_attr_keys
(
    TenantId LowCardinality(String),
    Signal LowCardinality(String),
    Key LowCardinality(String),
    Day Date CODEC(ZSTD(1)),
    Items SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1))
)
ENGINE = ${AggregatingMergeTree}
PARTITION BY toYYYYMM(Day)
ORDER BY (TenantId, Signal, Key, Day)
TTL Day + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.tf_attr_values
(
    TenantId LowCardinality(String),
    Signal LowCardinality(String),
    Key LowCardinality(String),
    Value String CODEC(ZSTD(1)),
    Day Date CODEC(ZSTD(1)),
    Items SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1))
)
ENGINE = ${AggregatingMergeTree}
PARTITION BY Day
ORDER BY (TenantId, Signal, Key, Value, Day) TTL Day + INTERVAL 3 DAY
SETTINGS ttl_only_drop_parts = 1, ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_attr_keys_traces_mv TO ${database}.tf_attr_keys AS
SELECT TenantId, 'traces' AS Signal, arrayJoin(Ks) AS Key, Day, sum(c) AS Items
FROM (SELECT TenantId, mapKeys(SpanAttributes) AS Ks, toDate(Timestamp) AS Day, count() AS c FROM ${database}.tf_traces WHERE cityHash64(SpanId) % 16 = 0 GROUP BY TenantId, Ks, Day)
GROUP BY TenantId, Key, Day;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_attr_values_traces_mv TO ${database}.tf_attr_values AS
SELECT TenantId, 'traces' AS Signal, kv.1 AS Key, kv.2 AS Value, toDate(Timestamp) AS Day, count() AS Items
FROM (SELECT TenantId, Timestamp, SpanAttributes FROM ${database}.tf_traces WHERE cityHash64(SpanId) % 128 = 0)
ARRAY JOIN CAST(SpanAttributes, 'Array(Tuple(LowCardinality(String), String))') AS kv WHERE length(kv.2) <= 64
GROUP BY TenantId, Key, Value, Day;
