-- The demo organization, and with what it begins anew every few hours.

CREATE TABLE demos (
  organization_id uuid PRIMARY KEY REFERENCES organizations ON DELETE CASCADE,
  -- By address: the passwords that were printed once go on working after a reset.
  password_hashes jsonb NOT NULL,
  reset_at timestamptz NOT NULL
);

ALTER TABLE demos ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_platform ON demos USING ((SELECT is_platform()));

-- A reset makes its people anew: nobody outlives it.
ALTER TABLE users DROP COLUMN is_seeded;
