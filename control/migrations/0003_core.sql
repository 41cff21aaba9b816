-- Who there is: Region → Organization → Workspace → Tenant, and people with their roles.
-- Every table but regions and permissions carries the organization, which row-level security compares.

CREATE TABLE regions (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  name text NOT NULL,
  code text NOT NULL UNIQUE,
  description text NOT NULL DEFAULT '',
  data_location text NOT NULL DEFAULT '',
  is_active boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE organizations (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  region_id uuid NOT NULL REFERENCES regions,
  name text NOT NULL,
  slug text NOT NULL,
  settings jsonb NOT NULL DEFAULT '{}',
  is_active boolean NOT NULL DEFAULT true,
  is_demo boolean NOT NULL DEFAULT false,
  -- Counts changes of what people of this organization may do; callers' permissions are kept with it.
  access_version bigint NOT NULL DEFAULT 1,
  deleted_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX organizations_slug ON organizations (slug) WHERE deleted_at IS NULL;
CREATE INDEX organizations_region ON organizations (region_id);

CREATE TABLE workspaces (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
  name text NOT NULL,
  slug text NOT NULL,
  description text NOT NULL DEFAULT '',
  datasource_config jsonb NOT NULL DEFAULT '{}',
  is_active boolean NOT NULL DEFAULT true,
  deleted_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (organization_id, id)
);
CREATE UNIQUE INDEX workspaces_slug ON workspaces (organization_id, slug) WHERE deleted_at IS NULL;

CREATE TABLE tenants (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  organization_id uuid NOT NULL,
  workspace_id uuid NOT NULL,
  name text NOT NULL,
  slug text NOT NULL,
  domain text NOT NULL DEFAULT '',
  settings jsonb NOT NULL DEFAULT '{}',
  is_active boolean NOT NULL DEFAULT true,
  deleted_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (organization_id, id),
  FOREIGN KEY (organization_id, workspace_id) REFERENCES workspaces (organization_id, id)
    ON DELETE CASCADE
);
CREATE UNIQUE INDEX tenants_slug ON tenants (workspace_id, slug) WHERE deleted_at IS NULL;
CREATE INDEX tenants_organization ON tenants (organization_id);

CREATE TABLE permissions (
  id uuid PRIMARY KEY,
  name text NOT NULL UNIQUE,
  resource text NOT NULL,
  action text NOT NULL,
  description text NOT NULL
);

CREATE TABLE roles (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  -- Null: a role of the system, the same for all organizations.
  organization_id uuid REFERENCES organizations ON DELETE CASCADE,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  level int NOT NULL CHECK (level BETWEEN 1 AND 5),
  is_system boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CHECK (is_system = (organization_id IS NULL))
);
CREATE UNIQUE INDEX roles_name ON roles
  (coalesce(organization_id, '00000000-0000-0000-0000-000000000000'), lower(name));

CREATE TABLE role_permissions (
  role_id uuid NOT NULL REFERENCES roles ON DELETE CASCADE,
  permission_id uuid NOT NULL REFERENCES permissions,
  organization_id uuid,
  PRIMARY KEY (role_id, permission_id)
);

CREATE TABLE users (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
  -- The tenant that they start in; null: the first that they may enter.
  tenant_id uuid,
  email text NOT NULL,
  first_name text NOT NULL,
  last_name text NOT NULL,
  avatar_url text NOT NULL DEFAULT '',
  timezone text NOT NULL DEFAULT 'UTC',
  language text NOT NULL DEFAULT 'en',
  is_active boolean NOT NULL DEFAULT true,
  is_email_verified boolean NOT NULL DEFAULT false,
  -- The people that come with a demo: they outlive its reset.
  is_seeded boolean NOT NULL DEFAULT false,
  last_login_at timestamptz,
  deleted_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (organization_id, id),
  FOREIGN KEY (organization_id, tenant_id) REFERENCES tenants (organization_id, id)
    ON DELETE SET NULL (tenant_id)
);
CREATE UNIQUE INDEX users_email ON users (lower(email)) WHERE deleted_at IS NULL;
CREATE INDEX users_organization ON users (organization_id, created_at);
CREATE INDEX users_active ON users (organization_id) WHERE is_active AND deleted_at IS NULL;

CREATE TABLE user_roles (
  organization_id uuid NOT NULL,
  user_id uuid NOT NULL,
  role_id uuid NOT NULL REFERENCES roles ON DELETE CASCADE,
  -- Null: in all tenants of the organization.
  tenant_id uuid,
  assigned_by uuid,
  assigned_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  UNIQUE NULLS NOT DISTINCT (user_id, role_id, tenant_id),
  FOREIGN KEY (organization_id, user_id) REFERENCES users (organization_id, id) ON DELETE CASCADE,
  FOREIGN KEY (organization_id, tenant_id) REFERENCES tenants (organization_id, id)
    ON DELETE CASCADE
);
CREATE INDEX user_roles_role ON user_roles (role_id);

CREATE TABLE user_permissions (
  organization_id uuid NOT NULL,
  user_id uuid NOT NULL,
  permission_id uuid NOT NULL REFERENCES permissions,
  granted_by uuid,
  granted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, permission_id),
  FOREIGN KEY (organization_id, user_id) REFERENCES users (organization_id, id) ON DELETE CASCADE
);

CREATE TABLE groups (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (organization_id, id)
);
CREATE UNIQUE INDEX groups_name ON groups (organization_id, lower(name));

CREATE TABLE user_groups (
  organization_id uuid NOT NULL,
  group_id uuid NOT NULL,
  user_id uuid NOT NULL,
  PRIMARY KEY (group_id, user_id),
  FOREIGN KEY (organization_id, group_id) REFERENCES groups (organization_id, id) ON DELETE CASCADE,
  FOREIGN KEY (organization_id, user_id) REFERENCES users (organization_id, id) ON DELETE CASCADE
);
CREATE INDEX user_groups_user ON user_groups (user_id);

CREATE TABLE group_roles (
  organization_id uuid NOT NULL,
  group_id uuid NOT NULL,
  role_id uuid NOT NULL REFERENCES roles ON DELETE CASCADE,
  PRIMARY KEY (group_id, role_id),
  FOREIGN KEY (organization_id, group_id) REFERENCES groups (organization_id, id) ON DELETE CASCADE
);
CREATE INDEX group_roles_role ON group_roles (role_id);

CREATE TABLE invitations (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
  user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  email text NOT NULL,
  invited_by uuid,
  -- Counts mails: only the link of the last one is good.
  sent_count int NOT NULL DEFAULT 1,
  expires_at timestamptz NOT NULL,
  accepted_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX invitations_organization ON invitations (organization_id, created_at);
CREATE UNIQUE INDEX invitations_open ON invitations (user_id)
  WHERE accepted_at IS NULL AND revoked_at IS NULL;

-- The second wall: rows of another organization do not exist for a transaction.
DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['workspaces', 'tenants', 'users', 'user_roles', 'user_permissions',
                              'groups', 'user_groups', 'group_roles', 'invitations'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY of_organization ON %I USING '
      '((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()))', name);
  END LOOP;
END $$;

ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON organizations
  USING ((SELECT is_platform()) OR id = (SELECT scoped_organization()));

ALTER TABLE regions ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_by_all ON regions FOR SELECT USING (true);
CREATE POLICY written_by_platform ON regions
  USING ((SELECT is_platform())) WITH CHECK ((SELECT is_platform()));

ALTER TABLE permissions ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_by_all ON permissions FOR SELECT USING (true);

ALTER TABLE roles ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_system ON roles FOR SELECT USING (organization_id IS NULL);
CREATE POLICY of_organization ON roles
  USING ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));

ALTER TABLE role_permissions ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_system ON role_permissions FOR SELECT USING (organization_id IS NULL);
CREATE POLICY of_organization ON role_permissions
  USING ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));

-- People who may sign in, with the strongest level that they hold in all tenants.
CREATE VIEW administrators WITH (security_invoker = true) AS
SELECT users.organization_id, users.id AS user_id, min(roles.level) AS level
  FROM users
  JOIN (SELECT user_id, role_id FROM user_roles
         WHERE tenant_id IS NULL AND (expires_at IS NULL OR expires_at > now())
         UNION
        SELECT user_id, role_id FROM user_groups JOIN group_roles USING (group_id)
       ) AS held ON held.user_id = users.id
  JOIN roles ON roles.id = held.role_id
 WHERE users.is_active AND users.deleted_at IS NULL
   -- Who was invited and did not join yet cannot sign in.
   AND NOT EXISTS (SELECT FROM invitations WHERE invitations.user_id = users.id
                      AND accepted_at IS NULL)
 GROUP BY users.organization_id, users.id;

-- Counted over all organizations, whatever the transaction may see.
CREATE FUNCTION super_administrators() RETURNS bigint STABLE SECURITY DEFINER
  SET search_path = public, pg_temp LANGUAGE sql AS
  $$ SELECT count(*) FROM administrators WHERE level = 1 $$;

-- Every permission that a person has, with where it comes from. A null tenant means all tenants.
CREATE VIEW effective_permissions WITH (security_invoker = true) AS
SELECT user_roles.organization_id, user_id, permission_id, tenant_id, expires_at,
       'role' AS source, role_id, NULL::uuid AS group_id
  FROM user_roles JOIN role_permissions USING (role_id)
 WHERE expires_at IS NULL OR expires_at > now()
UNION ALL
SELECT user_groups.organization_id, user_id, permission_id, NULL, NULL, 'group', role_id, group_id
  FROM user_groups JOIN group_roles USING (group_id) JOIN role_permissions USING (role_id)
UNION ALL
SELECT organization_id, user_id, permission_id, NULL, NULL, 'grant', NULL, NULL
  FROM user_permissions;

-- What authentication asks for at every request, before there is a scope. Empty for who may not in.
CREATE FUNCTION person_of(wanted uuid) RETURNS TABLE (
    organization_id uuid, tenant_id uuid, email text, access_version bigint)
  STABLE SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS $$
  SELECT organizations.id, users.tenant_id, users.email, organizations.access_version
    FROM users JOIN organizations ON organizations.id = users.organization_id
   WHERE users.id = wanted AND users.is_active AND users.deleted_at IS NULL
     AND organizations.is_active AND organizations.deleted_at IS NULL
$$;
-- What a person may do: one row per permission and tenant; level is that of the role behind it.
CREATE FUNCTION permissions_of(wanted uuid) RETURNS TABLE (
    name text, tenant_id uuid, expires_at timestamptz, level int)
  STABLE SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS $$
  SELECT permissions.name, held.tenant_id, min(held.expires_at), min(coalesce(roles.level, 5))
    FROM effective_permissions AS held
    JOIN permissions ON permissions.id = held.permission_id
    LEFT JOIN roles ON roles.id = held.role_id
   WHERE held.user_id = wanted
   GROUP BY permissions.name, held.tenant_id
$$;
CREATE FUNCTION active_tenants_of(wanted uuid) RETURNS TABLE (id uuid, workspace_id uuid)
  STABLE SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS $$
  SELECT tenants.id, tenants.workspace_id
    FROM tenants JOIN workspaces ON workspaces.id = tenants.workspace_id
   WHERE tenants.organization_id = wanted AND tenants.is_active AND tenants.deleted_at IS NULL
     AND workspaces.is_active AND workspaces.deleted_at IS NULL
   ORDER BY tenants.created_at, tenants.id
$$;
CREATE FUNCTION organization_of_tenant(wanted uuid) RETURNS uuid
  STABLE SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS
  $$ SELECT organization_id FROM tenants WHERE id = wanted $$;
