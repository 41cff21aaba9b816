-- What the worker adds to an event to make it an entry of the trail, as one value: a batch is an
-- array of these.
CREATE TYPE audit_addition AS (
  -- Of the event in the outbox.
  position bigint,
  sequence bigint,
  user_id uuid,
  actor text,
  action text,
  result text,
  resource_type text,
  request_id text,
  session_id text,
  metadata jsonb,
  personal_digest bytea,
  digest bytea,
  actor_sealed bytea,
  subject_sealed bytea,
  email_index bytea,
  ip_index bytea
);
