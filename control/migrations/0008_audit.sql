-- Who did what. Rows are only ever added; each carries the digest of the one before it of the same
-- organization, so that nothing can be altered, removed or put between without being found.

CREATE TABLE audit_logs (
  -- That of the event; an organization of nil is the platform.
  id uuid PRIMARY KEY,
  organization_id uuid NOT NULL,
  sequence bigint NOT NULL,
  occurred_at timestamptz NOT NULL,
  tenant_id uuid,
  user_id uuid,
  actor text NOT NULL,
  action text NOT NULL,
  result text NOT NULL CHECK (result IN ('success', 'failure')),
  resource_type text NOT NULL,
  resource_id uuid NOT NULL,
  request_id text NOT NULL,
  session_id text NOT NULL,
  metadata jsonb NOT NULL,
  -- SHA-256 of the row in audit_personal, which may be erased.
  personal_digest bytea NOT NULL,
  -- SHA-256 of all of the above and of the digest before.
  digest bytea NOT NULL,
  UNIQUE (organization_id, sequence)
);
CREATE INDEX audit_logs_time ON audit_logs (organization_id, occurred_at DESC);
CREATE INDEX audit_logs_user ON audit_logs (user_id, occurred_at DESC);
CREATE INDEX audit_logs_resource ON audit_logs (resource_id);
CREATE INDEX audit_logs_metadata ON audit_logs USING gin (metadata jsonb_path_ops);

-- What tells who a person is, apart: erased with its salt, the digest above tells nothing any more.
CREATE TABLE audit_personal (
  id uuid PRIMARY KEY REFERENCES audit_logs,
  organization_id uuid NOT NULL,
  salt bytea NOT NULL,
  email text NOT NULL,
  ip_address text NOT NULL,
  user_agent text NOT NULL,
  -- Of the event: names and addresses.
  details jsonb NOT NULL
);
CREATE INDEX audit_personal_address ON audit_personal (organization_id, ip_address);

-- The end of each organization's chain.
CREATE TABLE audit_chains (
  organization_id uuid PRIMARY KEY,
  sequence bigint NOT NULL,
  digest bytea NOT NULL
);

ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON audit_logs FOR SELECT
  USING ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
CREATE POLICY added_by_platform ON audit_logs FOR INSERT WITH CHECK ((SELECT is_platform()));
ALTER TABLE audit_personal ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON audit_personal FOR SELECT
  USING ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
CREATE POLICY of_platform ON audit_personal
  USING ((SELECT is_platform())) WITH CHECK ((SELECT is_platform()));
ALTER TABLE audit_chains ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_platform ON audit_chains
  USING ((SELECT is_platform())) WITH CHECK ((SELECT is_platform()));

REVOKE UPDATE, DELETE, TRUNCATE ON audit_logs FROM telemetryflow_app;
REVOKE UPDATE, TRUNCATE ON audit_personal FROM telemetryflow_app;
REVOKE DELETE, TRUNCATE ON audit_chains FROM telemetryflow_app;

-- Also for the owner, until somebody takes the trigger away: then the chain tells.
CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'rows of audit_logs are only ever added'; END $$;
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_logs
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();

ALTER TABLE outbox ADD COLUMN audited_at timestamptz;
CREATE INDEX outbox_unaudited ON outbox (position) WHERE audited_at IS NULL;
