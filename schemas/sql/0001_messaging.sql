-- Users, conversations, messages, receipts; the inbox and the outbox of the processors.
-- Works on PostgreSQL 15 and newer.

-- A UUID of version 7 from the database's clock. Ids made under a conversation's row lock sort
-- like its sequence, which keeps the primary keys' indexes dense.
CREATE FUNCTION uuid_v7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
  SELECT encode(
    set_byte(
      substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        || substring(r.bytes FROM 7),
      6,
      (get_byte(r.bytes, 6) & 15) | 112
    ),
    'hex'
  )::uuid
  FROM (SELECT uuid_send(gen_random_uuid()) AS bytes) AS r
$$;

-- ISO 8601 in UTC with milliseconds, as events carry times.
CREATE FUNCTION iso_utc(moment timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;

CREATE TABLE users (
  id            uuid PRIMARY KEY,
  display_name  text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 200),
  created_at    timestamptz NOT NULL DEFAULT now(),
  disabled_at   timestamptz
);

CREATE TABLE conversations (
  id          uuid PRIMARY KEY,
  title       text,
  last_seq    bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
  created_at  timestamptz NOT NULL DEFAULT now(),
  deleted_at  timestamptz
) WITH (fillfactor = 70); -- last_seq changes with every message: room for HOT updates

CREATE TABLE conversation_members (
  conversation_id     uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
  user_id             uuid NOT NULL REFERENCES users,
  joined_at           timestamptz NOT NULL DEFAULT now(),
  left_at             timestamptz,
  last_delivered_seq  bigint NOT NULL DEFAULT 0,
  last_read_seq       bigint NOT NULL DEFAULT 0,
  last_read_at        timestamptz,
  PRIMARY KEY (conversation_id, user_id),
  CHECK (0 <= last_read_seq AND last_read_seq <= last_delivered_seq)
) WITH (fillfactor = 80);

CREATE INDEX conversation_members_user ON conversation_members (user_id) WHERE left_at IS NULL;

CREATE TABLE messages (
  id               uuid PRIMARY KEY DEFAULT uuid_v7(),
  conversation_id  uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
  seq              bigint NOT NULL CHECK (seq > 0),
  sender_id        uuid NOT NULL,
  client_msg_id    text NOT NULL CHECK (char_length(client_msg_id) BETWEEN 1 AND 128),
  body_hash        bytea NOT NULL CHECK (octet_length(body_hash) = 32),
  kind             text NOT NULL,
  body             text NOT NULL,
  n_recipients     integer, -- null: the conversation is so large that it keeps watermarks alone
  n_delivered      integer NOT NULL DEFAULT 0,
  n_read           integer NOT NULL DEFAULT 0,
  created_at       timestamptz NOT NULL DEFAULT now(),
  UNIQUE (conversation_id, seq),
  UNIQUE (conversation_id, sender_id, client_msg_id),
  CHECK (0 <= n_read AND n_read <= n_delivered AND n_delivered <= coalesce(n_recipients, 0))
) WITH (fillfactor = 85);

-- One row per message and recipient. state: 10 sent, 20 delivered, 30 read; it never goes back.
CREATE TABLE message_deliveries (
  message_id       uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
  user_id          uuid NOT NULL,
  conversation_id  uuid NOT NULL,
  seq              bigint NOT NULL,
  state            smallint NOT NULL DEFAULT 10 CHECK (state IN (10, 20, 30)),
  sent_at          timestamptz NOT NULL,
  delivered_at     timestamptz,
  read_at          timestamptz,
  PRIMARY KEY (message_id, user_id)
) WITH (fillfactor = 85);

CREATE INDEX message_deliveries_unread
  ON message_deliveries (user_id, conversation_id, seq) WHERE state < 30;

-- What a job did, written in the transaction of its effects, for handlers without a natural key.
CREATE TABLE job_inbox (
  handler  text NOT NULL,
  job_id   text NOT NULL,
  result   jsonb,
  done_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (handler, job_id)
);

CREATE INDEX job_inbox_age ON job_inbox (done_at);

-- Events that were committed with their cause and wait to be published. A relay claims rows for a
-- short while, publishes them and deletes them; a claim that ran out is anyone's again.
CREATE TABLE outbox (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic          text NOT NULL,
  key            text NOT NULL,
  payload        jsonb NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT now(),
  claimed_until  timestamptz
) WITH (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 10000
);
