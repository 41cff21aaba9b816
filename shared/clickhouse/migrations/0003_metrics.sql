-- Data points of the five kinds of metrics, and their catalogues.

CREATE TABLE IF NOT EXISTS ${database}.tf_metrics_gauge
(
    TenantId                 LowCardinality(String) CODEC(ZSTD(1)),
    RetentionDays            UInt16 CODEC(ZSTD(1)),
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
    MetricName               LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription        LowCardinality(String) CODEC(ZSTD(1)),
    MetricUnit               LowCardinality(String) CODEC(ZSTD(1)),
    MetricMetadata           Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    Attributes               Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    SeriesHash               UInt64 CODEC(ZSTD(1)),
    StartTimeUnix            DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TimeUnix                 DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    Flags                    UInt32 CODEC(ZSTD(1)),
    Value                    Float64 CODEC(ZSTD(1)),
    ValueInt                 Int64 CODEC(ZSTD(1)),
    ValueType                UInt8 CODEC(ZSTD(1)),
    Exemplars Nested
    (
        FilteredAttributes Map(LowCardinality(String), String),
        TimeUnix DateTime64(9),
        Value Float64,
        ValueInt Int64,
        ValueType UInt8,
        SpanId String,
        TraceId String
    ) CODEC(ZSTD(1))
)
ENGINE = ${MergeTree}
PARTITION BY (toDate(TimeUnix), RetentionDays)
ORDER BY (TenantId, MetricName, ServiceName, TimeUnix)
TTL toDateTime(TimeUnix) + toIntervalDay(RetentionDays)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, propagate_types_serialization_versions_to_nested_types = 0,
    ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.tf_metrics_sum
(
    TenantId                 LowCardinality(String) CODEC(ZSTD(1)),
    RetentionDays            UInt16 CODEC(ZSTD(1)),
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
    MetricName               LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription        LowCardinality(String) CODEC(ZSTD(1)),
    MetricUnit               LowCardinality(String) CODEC(ZSTD(1)),
    MetricMetadata           Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    Attributes               Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    SeriesHash               UInt64 CODEC(ZSTD(1)),
    StartTimeUnix            DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TimeUnix                 DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    Flags                    UInt32 CODEC(ZSTD(1)),
    Value                    Float64 CODEC(ZSTD(1)),
    ValueInt                 Int64 CODEC(ZSTD(1)),
    ValueType                UInt8 CODEC(ZSTD(1)),
    AggregationTemporality   Int32 CODEC(ZSTD(1)),
    IsMonotonic              Bool CODEC(ZSTD(1)),
    Exemplars Nested
    (
        FilteredAttributes Map(LowCardinality(String), String),
        TimeUnix DateTime64(9),
        Value Float64,
        ValueInt Int64,
        ValueType UInt8,
        SpanId String,
        TraceId String
    ) CODEC(ZSTD(1))
)
ENGINE = ${MergeTree}
PARTITION BY (toDate(TimeUnix), RetentionDays)
ORDER BY (TenantId, MetricName, ServiceName, TimeUnix)
TTL toDateTime(TimeUnix) + toIntervalDay(RetentionDays)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, propagate_types_serialization_versions_to_nested_types = 0,
    ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.tf_metrics_histogram
(
    TenantId                 LowCardinality(String) CODEC(ZSTD(1)),
    RetentionDays            UInt16 CODEC(ZSTD(1)),
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
    MetricName               LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription        LowCardinality(String) CODEC(ZSTD(1)),
    MetricUnit               LowCardinality(String) CODEC(ZSTD(1)),
    MetricMetadata           Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    Attributes               Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    SeriesHash               UInt64 CODEC(ZSTD(1)),
    StartTimeUnix            DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TimeUnix                 DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    Flags                    UInt32 CODEC(ZSTD(1)),
    Count                    UInt64 CODEC(Delta(8), ZSTD(1)),
    Sum                      Float64 CODEC(ZSTD(1)),
    HasSum                   Bool CODEC(ZSTD(1)),
    Min                      Float64 CODEC(ZSTD(1)),
    HasMin                   Bool CODEC(ZSTD(1)),
    Max                      Float64 CODEC(ZSTD(1)),
    HasMax                   Bool CODEC(ZSTD(1)),
    BucketCounts             Array(UInt64) CODEC(T64, ZSTD(1)),
    ExplicitBounds           Array(Float64) CODEC(ZSTD(1)),
    AggregationTemporality   Int32 CODEC(ZSTD(1)),
    Exemplars Nested
    (
        FilteredAttributes Map(LowCardinality(String), String),
        TimeUnix DateTime64(9),
        Value Float64,
        ValueInt Int64,
        ValueType UInt8,
        SpanId String,
        TraceId String
    ) CODEC(ZSTD(1))
)
ENGINE = ${MergeTree}
PARTITION BY (toDate(TimeUnix), RetentionDays)
ORDER BY (TenantId, MetricName, ServiceName, TimeUnix)
TTL toDateTime(TimeUnix) + toIntervalDay(RetentionDays)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, propagate_types_serialization_versions_to_nested_types = 0,
    ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.tf_metrics_exponential_histogram
(
    TenantId                 LowCardinality(String) CODEC(ZSTD(1)),
    RetentionDays            UInt16 CODEC(ZSTD(1)),
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
    MetricName               LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription        LowCardinality(String) CODEC(ZSTD(1)),
    MetricUnit               LowCardinality(String) CODEC(ZSTD(1)),
    MetricMetadata           Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    Attributes               Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    SeriesHash               UInt64 CODEC(ZSTD(1)),
    StartTimeUnix            DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TimeUnix                 DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    Flags                    UInt32 CODEC(ZSTD(1)),
    Count                    UInt64 CODEC(Delta(8), ZSTD(1)),
    Sum                      Float64 CODEC(ZSTD(1)),
    HasSum                   Bool CODEC(ZSTD(1)),
    Min                      Float64 CODEC(ZSTD(1)),
    HasMin                   Bool CODEC(ZSTD(1)),
    Max                      Float64 CODEC(ZSTD(1)),
    HasMax                   Bool CODEC(ZSTD(1)),
    Scale                    Int32 CODEC(ZSTD(1)),
    ZeroCount                UInt64 CODEC(ZSTD(1)),
    ZeroThreshold            Float64 CODEC(ZSTD(1)),
    PositiveOffset           Int32 CODEC(ZSTD(1)),
    PositiveBucketCounts     Array(UInt64) CODEC(T64, ZSTD(1)),
    NegativeOffset           Int32 CODEC(ZSTD(1)),
    NegativeBucketCounts     Array(UInt64) CODEC(T64, ZSTD(1)),
    AggregationTemporality   Int32 CODEC(ZSTD(1)),
    Exemplars Nested
    (
        FilteredAttributes Map(LowCardinality(String), String),
        TimeUnix DateTime64(9),
        Value Float64,
        ValueInt Int64,
        ValueType UInt8,
        SpanId String,
        TraceId String
    ) CODEC(ZSTD(1))
)
ENGINE = ${MergeTree}
PARTITION BY (toDate(TimeUnix), RetentionDays)
ORDER BY (TenantId, MetricName, ServiceName, TimeUnix)
TTL toDateTime(TimeUnix) + toIntervalDay(RetentionDays)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, propagate_types_serialization_versions_to_nested_types = 0,
    ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.tf_metrics_summary
(
    TenantId                 LowCardinality(String) CODEC(ZSTD(1)),
    RetentionDays            UInt16 CODEC(ZSTD(1)),
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
    MetricName               LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription        LowCardinality(String) CODEC(ZSTD(1)),
    MetricUnit               LowCardinality(String) CODEC(ZSTD(1)),
    MetricMetadata           Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    Attributes               Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    SeriesHash               UInt64 CODEC(ZSTD(1)),
    StartTimeUnix            DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TimeUnix                 DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    Flags                    UInt32 CODEC(ZSTD(1)),
    Count                    UInt64 CODEC(Delta(8), ZSTD(1)),
    Sum                      Float64 CODEC(ZSTD(1)),
    ValueAtQuantiles Nested
    (
        Quantile Float64,
        Value Float64
    ) CODEC(ZSTD(1))
)
ENGINE = ${MergeTree}
PARTITION BY (toDate(TimeUnix), RetentionDays)
ORDER BY (TenantId, MetricName, ServiceName, TimeUnix)
TTL toDateTime(TimeUnix) + toIntervalDay(RetentionDays)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, propagate_types_serialization_versions_to_nested_types = 0,
    ${deduplication};

-- Metric names by service, type and unit.
CREATE TABLE IF NOT EXISTS ${database}.tf_metric_names
(
    TenantId LowCardinality(String),
    MetricName LowCardinality(String),
    ServiceName LowCardinality(String),
    Type LowCardinality(String),
    MetricUnit LowCardinality(String),
    Day Date CODEC(ZSTD(1)),
    Points SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1))
)
ENGINE = ${AggregatingMergeTree}
PARTITION BY toYYYYMM(Day)
ORDER BY (TenantId, MetricName, ServiceName, Type, MetricUnit, Day)
TTL Day + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_metric_names_gauge_mv TO ${database}.tf_metric_names AS
SELECT TenantId, MetricName, ServiceName, 'gauge' AS Type, MetricUnit, toDate(TimeUnix) AS Day, count() AS Points
FROM ${database}.tf_metrics_gauge GROUP BY TenantId, MetricName, ServiceName, MetricUnit, Day;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_metric_names_sum_mv TO ${database}.tf_metric_names AS
SELECT TenantId, MetricName, ServiceName, 'sum' AS Type, MetricUnit, toDate(TimeUnix) AS Day, count() AS Points
FROM ${database}.tf_metrics_sum GROUP BY TenantId, MetricName, ServiceName, MetricUnit, Day;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_metric_names_histogram_mv TO ${database}.tf_metric_names AS
SELECT TenantId, MetricName, ServiceName, 'histogram' AS Type, MetricUnit, toDate(TimeUnix) AS Day, count() AS Points
FROM ${database}.tf_metrics_histogram GROUP BY TenantId, MetricName, ServiceName, MetricUnit, Day;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_metric_names_exponential_histogram_mv TO ${database}.tf_metric_names AS
SELECT TenantId, MetricName, ServiceName, 'exponential_histogram' AS Type, MetricUnit, toDate(TimeUnix) AS Day, count() AS Points
FROM ${database}.tf_metrics_exponential_histogram GROUP BY TenantId, MetricName, ServiceName, MetricUnit, Day;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_metric_names_summary_mv TO ${database}.tf_metric_names AS
SELECT TenantId, MetricName, ServiceName, 'summary' AS Type, MetricUnit, toDate(TimeUnix) AS Day, count() AS Points
FROM ${database}.tf_metrics_summary GROUP BY TenantId, MetricName, ServiceName, MetricUnit, Day;

-- Hourly rollup of gauges and sums and the labels of each series: filled by rollups.py, since
-- views on insert would cost 0.5 and 7.5 CPU-seconds per million points.
CREATE TABLE IF NOT EXISTS ${database}.tf_metrics_1h
(
    TenantId LowCardinality(String),
    MetricName LowCardinality(String),
    ServiceName LowCardinality(String),
    SeriesHash UInt64 CODEC(ZSTD(1)),
    Hour DateTime CODEC(Delta(4), ZSTD(1)),
    Points SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ValueSum SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    ValueMin SimpleAggregateFunction(min, Float64) CODEC(ZSTD(1)),
    ValueMax SimpleAggregateFunction(max, Float64) CODEC(ZSTD(1)),
    Last AggregateFunction(argMax, Float64, DateTime64(9)) CODEC(ZSTD(1))
)
ENGINE = ${AggregatingMergeTree}
PARTITION BY toYYYYMM(Hour)
ORDER BY (TenantId, MetricName, ServiceName, SeriesHash, Hour)
TTL Hour + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.tf_metric_series
(
    TenantId LowCardinality(String),
    MetricName LowCardinality(String),
    ServiceName LowCardinality(String),
    SeriesHash UInt64 CODEC(ZSTD(1)),
    Day Date CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    Attributes Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1))
)
ENGINE = ${ReplacingMergeTree}
PARTITION BY toYYYYMM(Day)
ORDER BY (TenantId, MetricName, ServiceName, SeriesHash, Day)
TTL Day + INTERVAL 395 DAY
SETTINGS ttl_only_drop_parts = 1, ${deduplication};
