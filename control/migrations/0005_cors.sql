-- Which pages of other origins may call the API on behalf of people of a tenant.

CREATE TABLE cors_configurations (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  organization_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  name text NOT NULL,
  origins text[] NOT NULL,
  methods text[] NOT NULL,
  headers text[] NOT NULL,
  credentials boolean NOT NULL,
  max_age int NOT NULL,
  is_active boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (organization_id, tenant_id) REFERENCES tenants (organization_id, id)
    ON DELETE CASCADE
);
CREATE UNIQUE INDEX cors_configurations_name ON cors_configurations (tenant_id, lower(name));

ALTER TABLE cors_configurations ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON cors_configurations USING
  ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
