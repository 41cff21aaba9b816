-- What may come in: by plan, by tenant, by key; and how much of a month's quota is used.
-- In all of these, null is no limit.

CREATE TABLE ingestion_plans (
  name text PRIMARY KEY,
  description text NOT NULL,
  -- Of each tenant, at each gateway process.
  requests_per_minute bigint CHECK (requests_per_minute > 0),
  items_per_second bigint CHECK (items_per_second > 0),
  bytes_per_second bigint CHECK (bytes_per_second > 0),
  -- Of the organization in a calendar month (UTC): stored spans, data points, log records.
  traces_per_month bigint CHECK (traces_per_month > 0),
  metrics_per_month bigint CHECK (metrics_per_month > 0),
  logs_per_month bigint CHECK (logs_per_month > 0),
  -- How long data is still taken after a quota was used up.
  grace_days int NOT NULL CHECK (grace_days BETWEEN 0 AND 31),
  version int NOT NULL DEFAULT 1,
  updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ingestion_plans
  (name, description, traces_per_month, metrics_per_month, logs_per_month, grace_days) VALUES
  ('unlimited', 'No quota: for who runs the product themselves', NULL, NULL, NULL, 0),
  ('free', 'To try it', 50000, 1000000, 100000, 7),
  ('pro', 'For a team', 5000000, 100000000, 10000000, 7),
  ('enterprise', 'Without a quota', NULL, NULL, NULL, 7);

-- An organization without a row has the plan `unlimited`.
CREATE TABLE organization_plans (
  organization_id uuid PRIMARY KEY REFERENCES organizations ON DELETE CASCADE,
  version int NOT NULL,
  plan text NOT NULL REFERENCES ingestion_plans,
  updated_at timestamptz NOT NULL DEFAULT now()
);

-- Below the plan's, where a tenant's administrators want it so.
CREATE TABLE tenant_limits (
  tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
  organization_id uuid NOT NULL,
  version int NOT NULL,
  requests_per_minute bigint CHECK (requests_per_minute > 0),
  items_per_second bigint CHECK (items_per_second > 0),
  bytes_per_second bigint CHECK (bytes_per_second > 0),
  updated_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE api_keys ADD COLUMN requests_per_minute bigint CHECK (requests_per_minute > 0);
ALTER TABLE api_keys ADD COLUMN items_per_second bigint CHECK (items_per_second > 0);
ALTER TABLE api_keys ADD COLUMN bytes_per_second bigint CHECK (bytes_per_second > 0);

-- Signals whose quota of the current month is, or is nearly, used up; none for what has room.
CREATE TABLE ingestion_quotas (
  organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
  signal text NOT NULL CHECK (signal IN ('traces', 'metrics', 'logs')),
  -- The first day of the month.
  month date NOT NULL,
  items_max bigint NOT NULL,
  items_used bigint NOT NULL,
  state text NOT NULL CHECK (state IN ('nearly_used', 'grace', 'refused')),
  grace_ends_at timestamptz,
  PRIMARY KEY (organization_id, signal)
);

-- What gateways are told of a tenant changes with all of these.
CREATE FUNCTION note_limits_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE tenants SET updated_at = updated_at
   WHERE organization_id = coalesce(NEW.organization_id, OLD.organization_id);
  RETURN NULL;
END $$;
CREATE TRIGGER note_limits_change AFTER INSERT OR UPDATE OR DELETE ON organization_plans
  FOR EACH ROW EXECUTE FUNCTION note_limits_change();
CREATE TRIGGER note_limits_change AFTER INSERT OR UPDATE OR DELETE ON tenant_limits
  FOR EACH ROW EXECUTE FUNCTION note_limits_change();
CREATE TRIGGER note_limits_change AFTER INSERT OR UPDATE OR DELETE ON ingestion_quotas
  FOR EACH ROW EXECUTE FUNCTION note_limits_change();
CREATE FUNCTION note_plan_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE tenants SET updated_at = updated_at
   WHERE organization_id IN (SELECT organization_id FROM organization_plans WHERE plan = NEW.name);
  RETURN NULL;
END $$;
CREATE TRIGGER note_plan_change AFTER UPDATE ON ingestion_plans
  FOR EACH ROW EXECUTE FUNCTION note_plan_change();

ALTER TABLE organization_plans ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON organization_plans USING
  ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
ALTER TABLE tenant_limits ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON tenant_limits USING
  ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
ALTER TABLE ingestion_quotas ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON ingestion_quotas USING
  ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
