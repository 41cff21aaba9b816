-- Keys of a whole workspace: one of both, a tenant or a workspace, is what a key belongs to.

ALTER TABLE api_keys ALTER COLUMN tenant_id DROP NOT NULL;
ALTER TABLE api_keys ADD COLUMN workspace_id uuid;
ALTER TABLE api_keys ADD FOREIGN KEY (organization_id, workspace_id)
  REFERENCES workspaces (organization_id, id) ON DELETE CASCADE;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scope
  CHECK (num_nonnulls(tenant_id, workspace_id) = 1);
CREATE INDEX api_keys_workspace ON api_keys (workspace_id, created_at);

-- Gateways must learn the workspace of each tenant that they know already.
UPDATE tenants SET updated_at = updated_at;
