-- Entries of the audit trail that PostgreSQL let go, for seven years; columns are those of audit_logs.
-- In the order of the chains, which is that of time; an entry that comes twice is there once (FINAL).

CREATE TABLE IF NOT EXISTS ${database}.audit_logs_archive
(
    OrganizationId UUID,
    Sequence UInt64 CODEC(Delta(8), ZSTD(1)),
    Id UUID,
    Month Date,
    OccurredAt DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    TenantId Nullable(UUID),
    UserId Nullable(UUID),
    Actor LowCardinality(String),
    Action LowCardinality(String),
    Result LowCardinality(String),
    ResourceType LowCardinality(String),
    ResourceId UUID,
    RequestId String CODEC(ZSTD(1)),
    SessionId String CODEC(ZSTD(1)),
    Metadata String CODEC(ZSTD(1)),
    PersonalDigest String,
    Format UInt8,
    ActorSealed String,
    SubjectSealed String,
    EmailIndex String,
    IpIndex String,
    Digest String,
    INDEX IdBloom Id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX TimeMinMax OccurredAt TYPE minmax GRANULARITY 1,
    INDEX ActionSet Action TYPE set(100) GRANULARITY 4,
    INDEX ResourceBloom ResourceId TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX IpBloom IpIndex TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ${ReplacingMergeTree}
PARTITION BY toYYYYMM(Month)
ORDER BY (OrganizationId, Sequence)
TTL Month + INTERVAL 7 YEAR
SETTINGS ttl_only_drop_parts = 1, ${deduplication};
