-- Guards against runaway cardinality: how much of a tenant's data may be new in an hour, at each
-- gateway process; null is no limit. Keys have none of their own.

ALTER TABLE ingestion_plans
  ADD COLUMN new_series_per_hour bigint CHECK (new_series_per_hour > 0),
  ADD COLUMN new_attribute_keys_per_hour bigint CHECK (new_attribute_keys_per_hour > 0);
ALTER TABLE tenant_limits
  ADD COLUMN new_series_per_hour bigint CHECK (new_series_per_hour > 0),
  ADD COLUMN new_attribute_keys_per_hour bigint CHECK (new_attribute_keys_per_hour > 0);
