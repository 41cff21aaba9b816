-- What happened in a month, for an organization's administrators; made once, after the month.

CREATE TABLE audit_reports (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  organization_id uuid NOT NULL,
  month date NOT NULL,
  -- Null until the job has made it.
  summary jsonb,
  made_at timestamptz,
  UNIQUE (organization_id, month)
);
ALTER TABLE audit_reports ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON audit_reports FOR SELECT
  USING ((SELECT is_platform()) OR organization_id = (SELECT scoped_organization()));
CREATE POLICY of_platform ON audit_reports
  USING ((SELECT is_platform())) WITH CHECK ((SELECT is_platform()));
