-- Authentication in a single exchange: the person, and the tenant that they are about to act in, as
-- both are at this moment. Empty for who may not in; without a name for a tenant that is not active.
-- `session_of` is asked in the same statement.
CREATE FUNCTION person_in(wanted uuid, place uuid) RETURNS TABLE (
    organization_id uuid, tenant_id uuid, email text, access_version bigint, telemetry_id text)
  STABLE SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS $$
  SELECT organizations.id, users.tenant_id, users.email, organizations.access_version,
         (SELECT tenants.telemetry_id
            FROM tenants JOIN workspaces ON workspaces.id = tenants.workspace_id
           WHERE tenants.id = place AND tenants.is_active AND tenants.deleted_at IS NULL
             AND workspaces.is_active AND workspaces.deleted_at IS NULL)
    FROM users JOIN organizations ON organizations.id = users.organization_id
   WHERE users.id = wanted AND users.is_active AND users.deleted_at IS NULL
     AND organizations.is_active AND organizations.deleted_at IS NULL
$$;

-- With the names in telemetry.
DROP FUNCTION active_tenants_of(uuid);
CREATE FUNCTION active_tenants_of(wanted uuid) RETURNS TABLE (
    id uuid, workspace_id uuid, telemetry_id text)
  STABLE SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS $$
  SELECT tenants.id, tenants.workspace_id, tenants.telemetry_id
    FROM tenants JOIN workspaces ON workspaces.id = tenants.workspace_id
   WHERE tenants.organization_id = wanted AND tenants.is_active AND tenants.deleted_at IS NULL
     AND workspaces.is_active AND workspaces.deleted_at IS NULL
   ORDER BY tenants.created_at, tenants.id
$$;
