-- What became of every item, by tenant, minute and signal; the events stand in ingest/ledger.

CREATE TABLE IF NOT EXISTS ${database}.tf_ledger
(
    TenantId LowCardinality(String),
    Minute DateTime CODEC(Delta(4), ZSTD(1)),
    Signal LowCardinality(String),
    Event LowCardinality(String),
    Reason LowCardinality(String),
    Items UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ${SummingMergeTree}
PARTITION BY toDate(Minute)
ORDER BY (TenantId, Minute, Signal, Event, Reason)
TTL Minute + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, ${deduplication};

CREATE VIEW IF NOT EXISTS ${database}.ledger AS
SELECT
    TenantId,
    Minute,
    Signal,
    sumIf(Items, Event = 'received') AS Received,
    sumIf(Items, Event = 'rejected') AS Rejected,
    groupUniqArrayIf(Reason, Event = 'rejected') AS RejectedReasons,
    sumIf(Items, Event = 'refused') AS RefusedRequests,
    sumIf(Items, Event = 'suppressed') AS SuppressedRequests,
    sumIf(Items, Event = 'acked') AS Acked,
    sumIf(Items, Event = 'stored') AS Stored,
    sumIf(Items, Event = 'dead') AS Dead,
    sumIf(Items, Event = 'replayed') AS Replayed,
    sumIf(Items, Event = 'repeated') AS Repeated,
    toInt64(Acked) - toInt64(Stored) - toInt64(Dead) - toInt64(Repeated) AS Missing
FROM ${database}.tf_ledger
GROUP BY TenantId, Minute, Signal;
