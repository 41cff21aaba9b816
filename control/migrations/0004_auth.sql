-- How people prove who they are: passwords, second factors, sessions. Secrets are hashed, encrypted,
-- or digests of random text.

CREATE TABLE accounts (
  id uuid PRIMARY KEY,
  version int NOT NULL,
  organization_id uuid NOT NULL,
  email text NOT NULL,
  first_name text NOT NULL DEFAULT '',
  last_name text NOT NULL DEFAULT '',
  -- Null until they choose one.
  password_hash text,
  password_changed_at timestamptz,
  must_change_password boolean NOT NULL DEFAULT false,
  email_verified_at timestamptz,
  mfa_secret bytea,
  mfa_enabled_at timestamptz,
  -- The step of the last code that was taken: a code is good once.
  mfa_last_step bigint,
  mfa_failures int NOT NULL DEFAULT 0,
  mfa_locked_until timestamptz,
  recovery_salt bytea,
  closed_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX accounts_email ON accounts (lower(email)) WHERE closed_at IS NULL;

CREATE TABLE recovery_codes (
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  digest bytea NOT NULL,
  PRIMARY KEY (account_id, digest)
);

CREATE TABLE password_history (
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  password_hash text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX password_history_account ON password_history (account_id, created_at);

CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  -- However often it is refreshed, it ends then.
  ends_at_latest timestamptz NOT NULL,
  ended_at timestamptz,
  end_reason text,
  ip_address text NOT NULL,
  user_agent text NOT NULL,
  has_mfa boolean NOT NULL
);
CREATE INDEX sessions_account ON sessions (account_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE refresh_tokens (
  digest bytea PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
  issued_at timestamptz NOT NULL DEFAULT now(),
  used_at timestamptz
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE trusted_devices (
  id uuid PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  digest bytea NOT NULL UNIQUE,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX trusted_devices_account ON trusted_devices (account_id);

-- Failed sign-ins of one address for one account, known or not; the key is a digest of both.
CREATE TABLE sign_in_failures (
  key bytea PRIMARY KEY,
  failures int NOT NULL,
  last_at timestamptz NOT NULL,
  locked_until timestamptz
);
CREATE INDEX sign_in_failures_age ON sign_in_failures (last_at);

-- What links in mails carry, as digests.
CREATE TABLE mail_tokens (
  digest bytea PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('verification', 'reset', 'invitation')),
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  -- The invitation that it is for.
  subject_id uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX mail_tokens_account ON mail_tokens (account_id, kind);
CREATE INDEX mail_tokens_expiry ON mail_tokens (expires_at);

-- Ids of tokens between password and second factor that were used.
CREATE TABLE used_tokens (
  token_id text PRIMARY KEY,
  expires_at timestamptz NOT NULL
);

CREATE TABLE signing_keys (
  key_id text PRIMARY KEY,
  material bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Nobody but the sign-in itself, which runs for the platform, sees any of this.
DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['accounts', 'recovery_codes', 'password_history', 'sessions',
                              'refresh_tokens', 'trusted_devices', 'sign_in_failures',
                              'mail_tokens', 'used_tokens', 'signing_keys'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY of_platform ON %I USING ((SELECT is_platform()))', name);
  END LOOP;
END $$;

-- What authentication asks for at every request, before there is a scope. Empty when it has ended.
CREATE FUNCTION session_of(wanted uuid) RETURNS TABLE (
    account_id uuid, has_mfa boolean, must_change_password boolean, password_changed_at timestamptz)
  STABLE SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS $$
  SELECT accounts.id, sessions.has_mfa, accounts.must_change_password, accounts.password_changed_at
    FROM sessions JOIN accounts ON accounts.id = sessions.account_id
   WHERE sessions.id = wanted AND sessions.ended_at IS NULL AND sessions.expires_at > now()
     AND accounts.closed_at IS NULL
$$;
