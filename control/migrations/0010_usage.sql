-- What was stored, by day (UTC) of receipt, and when each key was last used: copied from ClickHouse
-- (control.api_keys.usage). Beside api_keys, since a change of a key is told to every gateway.

CREATE TABLE usage_days (
  organization_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  -- What clients send; empty for data without a key.
  key_id text NOT NULL,
  signal text NOT NULL CHECK (signal IN ('traces', 'metrics', 'logs')),
  day date NOT NULL,
  items bigint NOT NULL,
  bytes bigint NOT NULL,
  PRIMARY KEY (tenant_id, key_id, day, signal),
  FOREIGN KEY (organization_id, tenant_id) REFERENCES tenants (organization_id, id)
    ON DELETE CASCADE
);
CREATE INDEX usage_days_organization ON usage_days (organization_id, day);

CREATE TABLE api_key_uses (
  key_id text PRIMARY KEY,
  organization_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  -- To the minute.
  last_used_at timestamptz NOT NULL,
  FOREIGN KEY (organization_id, tenant_id) REFERENCES tenants (organization_id, id)
    ON DELETE CASCADE
);
CREATE INDEX api_key_uses_tenant ON api_key_uses (tenant_id);

-- Until when, by ClickHouse's clock, what was told to it is copied.
CREATE TABLE usage_copies (
  is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
  copied_until timestamptz NOT NULL
);

ALTER TABLE usage_days ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON usage_days USING
  ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
ALTER TABLE api_key_uses ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON api_key_uses USING
  ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
