-- Keys that exporters send with, and what gateways follow: every change of a key or a tenant carries
-- the transaction that made it, so that a reader who knows up to which one it has seen all asks for
-- the rest (control.api_keys.directory).

-- The tenant's name in telemetry (ClickHouse, headers); that of the first tenant is `default`.
ALTER TABLE tenants ADD COLUMN telemetry_id text UNIQUE;
UPDATE tenants SET telemetry_id = id::text;
UPDATE tenants SET telemetry_id = 'default'
 WHERE id = (SELECT id FROM tenants ORDER BY created_at, id LIMIT 1);
ALTER TABLE tenants ALTER COLUMN telemetry_id SET NOT NULL;
CREATE FUNCTION name_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.telemetry_id := coalesce(NEW.telemetry_id, NEW.id::text);
  RETURN NEW;
END $$;
CREATE TRIGGER name_tenant BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION name_tenant();

CREATE TABLE api_keys (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  organization_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  -- What clients send, and the HMAC-SHA-256 of what they send with it.
  key_id text NOT NULL UNIQUE,
  secret_hash bytea NOT NULL,
  -- Which pepper it was made with (shared.security.peppers).
  pepper_id text NOT NULL,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  permissions text[] NOT NULL,
  -- From where it may be used; empty: from anywhere.
  allowed_networks text[] NOT NULL DEFAULT '{}',
  status text NOT NULL CHECK (status IN ('active', 'rotated', 'revoked', 'expired')),
  created_by uuid,
  expires_at timestamptz NOT NULL,
  grace_ends_at timestamptz,
  replaced_by uuid,
  revoked_at timestamptz,
  revoked_by uuid,
  -- When its owner was told that it expires.
  noticed_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (organization_id, tenant_id) REFERENCES tenants (organization_id, id)
    ON DELETE CASCADE
);
CREATE INDEX api_keys_tenant ON api_keys (tenant_id, created_at);
CREATE INDEX api_keys_expiry ON api_keys (expires_at) WHERE status IN ('active', 'rotated');

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON api_keys USING
  ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));

ALTER TABLE tenants ADD COLUMN changed_by_xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE api_keys ADD COLUMN changed_by_xid xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX tenants_changed ON tenants (changed_by_xid);
CREATE INDEX api_keys_changed ON api_keys (changed_by_xid);

CREATE TABLE directory_removals (
  changed_by_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  kind text NOT NULL CHECK (kind IN ('tenant', 'key')),
  name text NOT NULL,
  removed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX directory_removals_changed ON directory_removals (changed_by_xid);

-- Tells one database from another, and from itself after a restore from a backup.
CREATE TABLE directory_epoch (epoch uuid NOT NULL DEFAULT gen_random_uuid());
INSERT INTO directory_epoch DEFAULT VALUES;
REVOKE INSERT, UPDATE, DELETE ON directory_epoch FROM telemetryflow_app;

CREATE FUNCTION note_directory_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.changed_by_xid := pg_current_xact_id();
  PERFORM pg_notify('directory', '');
  RETURN NEW;
END $$;
CREATE TRIGGER note_directory_change BEFORE INSERT OR UPDATE ON tenants
  FOR EACH ROW EXECUTE FUNCTION note_directory_change();
CREATE TRIGGER note_directory_change BEFORE INSERT OR UPDATE ON api_keys
  FOR EACH ROW EXECUTE FUNCTION note_directory_change();

CREATE FUNCTION note_directory_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'tenants' THEN
    INSERT INTO directory_removals (kind, name) VALUES ('tenant', OLD.telemetry_id);
  ELSE
    INSERT INTO directory_removals (kind, name) VALUES ('key', OLD.key_id);
  END IF;
  PERFORM pg_notify('directory', '');
  RETURN NULL;
END $$;
CREATE TRIGGER note_directory_removal AFTER DELETE ON tenants
  FOR EACH ROW EXECUTE FUNCTION note_directory_removal();
CREATE TRIGGER note_directory_removal AFTER DELETE ON api_keys
  FOR EACH ROW EXECUTE FUNCTION note_directory_removal();

-- A tenant is as active as what it is in.
CREATE FUNCTION note_place_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE tenants SET updated_at = updated_at WHERE NEW.id IN (organization_id, workspace_id);
  RETURN NULL;
END $$;
CREATE TRIGGER note_place_change AFTER UPDATE OF is_active, deleted_at ON organizations
  FOR EACH ROW EXECUTE FUNCTION note_place_change();
CREATE TRIGGER note_place_change AFTER UPDATE OF is_active, deleted_at ON workspaces
  FOR EACH ROW EXECUTE FUNCTION note_place_change();
