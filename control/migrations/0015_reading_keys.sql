-- Keys that read. What authentication with a key asks for at every request, before there is a scope:
-- the key, and the tenant that it would read: its own, or of a workspace's key the one of that
-- workspace that is named, by id or by its name in telemetry. Without such a tenant, that is null.
CREATE FUNCTION reader_of(wanted text, named text) RETURNS TABLE (
    organization_id uuid, secret_hash bytea, pepper_id text, permissions text[],
    allowed_networks text[], has_ended boolean, is_of_workspace boolean,
    tenant_id uuid, workspace_id uuid, telemetry_id text, is_active boolean)
  STABLE SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS $$
  SELECT api_keys.organization_id, secret_hash, pepper_id, permissions, allowed_networks,
         status NOT IN ('active', 'rotated') OR least(expires_at, grace_ends_at) <= now(),
         api_keys.workspace_id IS NOT NULL,
         tenants.id, tenants.workspace_id, tenants.telemetry_id,
         tenants.is_active AND tenants.deleted_at IS NULL
         AND workspaces.is_active AND workspaces.deleted_at IS NULL
         AND organizations.is_active AND organizations.deleted_at IS NULL
    FROM api_keys
    LEFT JOIN tenants ON tenants.id = coalesce(
           api_keys.tenant_id,
           (SELECT one.id FROM tenants AS one
             WHERE one.workspace_id = api_keys.workspace_id
               AND named IN (one.id::text, one.telemetry_id)
             LIMIT 1))
    LEFT JOIN workspaces ON workspaces.id = tenants.workspace_id
    LEFT JOIN organizations ON organizations.id = tenants.organization_id
   WHERE key_id = wanted
$$;
