-- The role that processes work as: it owns nothing and cannot bypass row-level security.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'telemetryflow_app') THEN
    CREATE ROLE telemetryflow_app NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  -- Another database of the same server made it in this moment.
  NULL;
END $$;
DO $$
BEGIN
  EXECUTE format('GRANT telemetryflow_app TO %I', current_user);
END $$;
GRANT USAGE ON SCHEMA public TO telemetryflow_app;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO telemetryflow_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO telemetryflow_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO telemetryflow_app;

-- What a transaction said at its start (shared.postgres.database).
CREATE FUNCTION is_platform() RETURNS boolean STABLE LANGUAGE sql AS
  $$ SELECT current_setting('app.platform', true) = 'on' $$;
CREATE FUNCTION scoped_organization() RETURNS uuid STABLE LANGUAGE sql AS
  $$ SELECT nullif(current_setting('app.organization_id', true), '')::uuid $$;
CREATE FUNCTION scoped_tenant() RETURNS uuid STABLE LANGUAGE sql AS
  $$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$;

CREATE TABLE outbox (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_id uuid NOT NULL UNIQUE,
  event_type text NOT NULL,
  aggregate_id uuid NOT NULL,
  organization_id uuid,
  tenant_id uuid,
  payload jsonb NOT NULL,
  context jsonb NOT NULL,
  occurred_at timestamptz NOT NULL,
  relayed_at timestamptz
);
CREATE INDEX outbox_waiting ON outbox (position) WHERE relayed_at IS NULL;
CREATE INDEX outbox_relayed ON outbox (relayed_at) WHERE relayed_at IS NOT NULL;

-- One row for each event and each of its subscribers, made when the event is relayed.
CREATE TABLE event_deliveries (
  event_id uuid NOT NULL,
  subscriber text NOT NULL,
  position bigint NOT NULL REFERENCES outbox ON DELETE CASCADE,
  aggregate_id uuid NOT NULL,
  state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'dead', 'discarded')),
  attempts int NOT NULL DEFAULT 0,
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  error text,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (event_id, subscriber)
);
CREATE INDEX event_deliveries_waiting ON event_deliveries (position) WHERE state = 'waiting';
CREATE INDEX event_deliveries_order ON event_deliveries (subscriber, aggregate_id, position)
  WHERE state = 'waiting';
CREATE INDEX event_deliveries_dead ON event_deliveries (updated_at) WHERE state = 'dead';
CREATE INDEX event_deliveries_of_event ON event_deliveries (position);

-- Answers of POST requests that came with an Idempotency-Key, kept for a day.
CREATE TABLE idempotency_keys (
  owner_id uuid NOT NULL,
  key text NOT NULL,
  route text NOT NULL,
  request_digest bytea NOT NULL,
  -- Set by the transaction that carries the request out; the answer follows after it.
  committed_id uuid,
  status int,
  headers jsonb,
  body bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (owner_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
