-- The trail by month, so that what is old can go as a whole once it is archived; and what tells who
-- a person is, sealed with a key of that person (docs/audit.md).

ALTER TABLE audit_logs RENAME TO audit_logs_before;
ALTER TABLE audit_logs_before RENAME CONSTRAINT audit_logs_pkey TO audit_logs_before_pkey;
ALTER TABLE audit_personal DROP CONSTRAINT audit_personal_id_fkey;
DROP INDEX audit_logs_time, audit_logs_user, audit_logs_resource, audit_logs_metadata;
DROP TRIGGER refuse_change ON audit_logs_before;

CREATE TABLE audit_logs (
  -- That of the event; an organization of nil is the platform.
  id uuid NOT NULL,
  -- When it was recorded. It never goes back in a chain, so that a month is a whole piece of it.
  month date NOT NULL,
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
  -- SHA-256 of what is personal: as it is sealed here (format 2), or of the salted text (format 1).
  personal_digest bytea NOT NULL,
  format smallint NOT NULL,
  -- Each part: the person's id (16 bytes), nonce (12), AES-256-GCM under that person's key.
  actor_sealed bytea,
  subject_sealed bytea,
  -- HMAC-SHA-256 under the person's key, cut to 16 bytes: found by whoever has the key.
  email_index bytea,
  ip_index bytea,
  -- SHA-256 of all from id to personal_digest but the month, and of the digest before.
  digest bytea NOT NULL,
  PRIMARY KEY (id, month),
  UNIQUE (organization_id, sequence, month)
) PARTITION BY RANGE (month);
CREATE INDEX audit_logs_time ON audit_logs (organization_id, occurred_at DESC);
CREATE INDEX audit_logs_user ON audit_logs (user_id, occurred_at DESC);
CREATE INDEX audit_logs_resource ON audit_logs (resource_id);
CREATE INDEX audit_logs_address ON audit_logs (organization_id, ip_index);
CREATE INDEX audit_logs_metadata ON audit_logs USING gin (metadata jsonb_path_ops);

-- Also for the owner, until somebody takes the triggers away: then the chain tells.
CREATE OR REPLACE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'rows of audit_logs are only ever added';
END $$;

-- What was recorded before 0012 is sealed by the worker, once; nothing else of it changes.
CREATE FUNCTION refuse_change_of_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  sealed text[] := ARRAY['actor_sealed', 'subject_sealed', 'email_index', 'ip_index'];
BEGIN
  IF TG_OP = 'UPDATE' AND OLD.format = 1 AND OLD.actor_sealed IS NULL
     AND to_jsonb(NEW) - sealed = to_jsonb(OLD) - sealed THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'rows of audit_logs are only ever added';
END $$;

CREATE FUNCTION make_audit_partition(wanted date) RETURNS void
  SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE plpgsql AS $$
DECLARE
  first date := date_trunc('month', wanted);
  name text := 'audit_logs_' || to_char(first, 'YYYY_MM');
BEGIN
  IF to_regclass(name) IS NOT NULL THEN
    RETURN;
  END IF;
  EXECUTE format('CREATE TABLE %I PARTITION OF audit_logs FOR VALUES FROM (%L) TO (%L)',
                 name, first, (first + interval '1 month')::date);
  -- Rows go in and come out through audit_logs alone, where the policies and the chain hold.
  EXECUTE format('REVOKE ALL ON %I FROM telemetryflow_app', name);
  EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT '
                 'EXECUTE FUNCTION refuse_change_of_audit()', name);
END $$;
REVOKE EXECUTE ON FUNCTION make_audit_partition FROM PUBLIC, telemetryflow_app;

CREATE FUNCTION make_audit_partitions() RETURNS void
  SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS $$
  SELECT make_audit_partition((now() + ahead * interval '1 month')::date)
    FROM generate_series(0, 2) AS ahead
$$;

SELECT make_audit_partition(month::date) FROM (
  SELECT DISTINCT date_trunc('month', occurred_at) AS month FROM audit_logs_before) AS months;
SELECT make_audit_partitions();
INSERT INTO audit_logs (id, month, organization_id, sequence, occurred_at, tenant_id, user_id,
    actor, action, result, resource_type, resource_id, request_id, session_id, metadata,
    personal_digest, format, digest)
SELECT id, max(date_trunc('month', occurred_at)) OVER
         (PARTITION BY organization_id ORDER BY sequence), organization_id, sequence, occurred_at,
       tenant_id, user_id, actor, action, result, resource_type, resource_id, request_id,
       session_id, metadata, personal_digest, 1, digest
  FROM audit_logs_before;
DROP TABLE audit_logs_before;

CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON audit_logs
  FOR EACH ROW EXECUTE FUNCTION refuse_change_of_audit_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit_logs
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();

-- The end of each chain, moved by the database itself: what is added follows the last entry, without
-- a gap and without a fork, over all months. What was pruned ends at pruned_sequence.
ALTER TABLE audit_chains
  ADD COLUMN month date NOT NULL DEFAULT '-infinity',
  ADD COLUMN pruned_sequence bigint NOT NULL DEFAULT 0,
  ADD COLUMN pruned_digest bytea;
UPDATE audit_chains SET month = audit_logs.month FROM audit_logs
 WHERE audit_logs.organization_id = audit_chains.organization_id
   AND audit_logs.sequence = audit_chains.sequence;

CREATE FUNCTION extend_audit_chains() RETURNS trigger
  SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit_chains (organization_id, sequence, digest)
  SELECT DISTINCT organization_id, 0, ''::bytea FROM added ORDER BY 1 ON CONFLICT DO NOTHING;
  PERFORM FROM audit_chains WHERE organization_id IN (SELECT organization_id FROM added)
    ORDER BY organization_id FOR UPDATE;
  IF EXISTS (
    SELECT FROM audit_chains JOIN (
      SELECT organization_id, min(sequence) AS first, max(sequence) AS last, count(*) AS entries,
             min(added.month) AS month
        FROM added GROUP BY organization_id) AS more USING (organization_id)
     WHERE more.first <> audit_chains.sequence + 1 OR more.month < audit_chains.month
        OR more.last - more.first + 1 <> more.entries
  ) THEN
    RAISE EXCEPTION 'entries of the audit trail follow the last one, without a gap';
  END IF;
  UPDATE audit_chains SET sequence = ends.sequence, digest = ends.digest, month = ends.month
    FROM (SELECT DISTINCT ON (organization_id) organization_id, sequence, digest, month
            FROM added ORDER BY organization_id, sequence DESC) AS ends
   WHERE ends.organization_id = audit_chains.organization_id;
  RETURN NULL;
END $$;
CREATE TRIGGER extend_chains AFTER INSERT ON audit_logs REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION extend_audit_chains();

-- Months that are in the archive and not here any more; what was signed about them.
CREATE TABLE audit_prunings (
  month date PRIMARY KEY,
  signed text NOT NULL,
  pruned_at timestamptz NOT NULL DEFAULT now()
);

-- The one way for the product to let entries go: a whole month, the oldest one, that ended 90 days
-- ago, and only with a record that says for each chain where the month ends.
CREATE FUNCTION drop_audit_month(wanted date, signed text) RETURNS void
  SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE plpgsql AS $$
DECLARE
  told jsonb := signed::jsonb -> 'pruned';
BEGIN
  IF wanted <> date_trunc('month', wanted)
     OR wanted + interval '1 month' > now() - interval '90 days' THEN
    RAISE EXCEPTION 'only whole months that ended 90 days ago are dropped';
  END IF;
  IF EXISTS (SELECT FROM audit_logs WHERE month < wanted) THEN
    RAISE EXCEPTION 'older months are dropped first';
  END IF;
  CREATE TEMP TABLE ends ON COMMIT DROP AS
    SELECT DISTINCT ON (organization_id) organization_id, sequence, digest
      FROM audit_logs WHERE month = wanted ORDER BY organization_id, sequence DESC;
  IF EXISTS (
    SELECT FROM ends FULL JOIN (
      SELECT key::uuid AS organization_id, (value ->> 0)::bigint AS sequence, value ->> 1 AS digest
        FROM jsonb_each(told)) AS signed_ends USING (organization_id)
     WHERE ends.sequence IS DISTINCT FROM signed_ends.sequence
        OR encode(ends.digest, 'hex') IS DISTINCT FROM signed_ends.digest
  ) THEN
    RAISE EXCEPTION 'what is signed is not where the month ends';
  END IF;
  UPDATE audit_chains SET pruned_sequence = ends.sequence, pruned_digest = ends.digest
    FROM ends WHERE ends.organization_id = audit_chains.organization_id;
  INSERT INTO audit_prunings (month, signed) VALUES (wanted, drop_audit_month.signed);
  EXECUTE format('DROP TABLE %I', 'audit_logs_' || to_char(wanted, 'YYYY_MM'));
  DROP TABLE ends;
END $$;

-- One for each person in each chain, itself encrypted (ENCRYPTION_KEYS). Who is erased has none any
-- more, and never gets another one. Who is nobody yet is under the organization's own id.
CREATE TABLE audit_person_keys (
  organization_id uuid NOT NULL,
  person_id uuid NOT NULL,
  wrapped bytea,
  erased_at timestamptz,
  PRIMARY KEY (organization_id, person_id),
  CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL))
);
CREATE INDEX audit_person_keys_person ON audit_person_keys (person_id);

-- What 0008 kept in the clear, until the worker has sealed it.
CREATE FUNCTION seal_audit_entry(
    wanted uuid, of_actor bytea, of_subject bytea, of_email bytea, of_ip bytea)
  RETURNS void SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE plpgsql AS $$
BEGIN
  UPDATE audit_logs SET actor_sealed = of_actor, subject_sealed = of_subject,
                        email_index = of_email, ip_index = of_ip
   WHERE id = wanted AND format = 1 AND actor_sealed IS NULL;
  DELETE FROM audit_personal WHERE id = wanted;
END $$;

ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON audit_logs FOR SELECT
  USING ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
CREATE POLICY added_by_platform ON audit_logs FOR INSERT WITH CHECK ((SELECT is_platform()));
ALTER TABLE audit_person_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON audit_person_keys FOR SELECT
  USING ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
CREATE POLICY of_platform ON audit_person_keys
  USING ((SELECT is_platform())) WITH CHECK ((SELECT is_platform()));
ALTER TABLE audit_prunings ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_by_all ON audit_prunings FOR SELECT USING (true);

REVOKE UPDATE, DELETE, TRUNCATE ON audit_logs FROM telemetryflow_app;
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON audit_chains FROM telemetryflow_app;
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON audit_prunings FROM telemetryflow_app;
REVOKE DELETE, TRUNCATE ON audit_person_keys FROM telemetryflow_app;
REVOKE INSERT ON audit_personal FROM telemetryflow_app;
