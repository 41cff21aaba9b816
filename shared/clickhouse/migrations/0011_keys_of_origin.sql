-- Keys of resources and scopes beside those of items, of as many items. Signal says where they stand:
-- traces.resource, traces.scope, logs.resource, logs.scope.

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_attr_keys_traces_origin_mv TO ${database}.tf_attr_keys AS
SELECT TenantId, place.1 AS Signal, place.2 AS Key, Day, sum(c) AS Items
FROM (SELECT TenantId, mapKeys(ResourceAttributes) AS Rs, mapKeys(ScopeAttributes) AS Ss, toDate(Timestamp) AS Day, count() AS c FROM ${database}.tf_traces WHERE cityHash64(SpanId) % 16 = 0 GROUP BY TenantId, Rs, Ss, Day)
ARRAY JOIN arrayConcat(arrayMap(k -> ('traces.resource', toString(k)), Rs), arrayMap(k -> ('traces.scope', toString(k)), Ss)) AS place
GROUP BY TenantId, Signal, Key, Day;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.tf_attr_keys_logs_origin_mv TO ${database}.tf_attr_keys AS
SELECT TenantId, place.1 AS Signal, place.2 AS Key, Day, sum(c) AS Items
FROM (SELECT TenantId, mapKeys(ResourceAttributes) AS Rs, mapKeys(ScopeAttributes) AS Ss, toDate(Timestamp) AS Day, count() AS c FROM ${database}.tf_logs WHERE toUnixTimestamp64Nano(Timestamp) % 16 = 0 GROUP BY TenantId, Rs, Ss, Day)
ARRAY JOIN arrayConcat(arrayMap(k -> ('logs.resource', toString(k)), Rs), arrayMap(k -> ('logs.scope', toString(k)), Ss)) AS place
GROUP BY TenantId, Signal, Key, Day;
