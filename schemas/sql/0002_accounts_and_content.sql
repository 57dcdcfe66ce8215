-- What the processors need of users, conversations, members and messages beyond sending and receipts.

ALTER TABLE users
  ADD COLUMN email             text CHECK (char_length(email) <= 320),
  ADD COLUMN phone             text CHECK (phone ~ '^\+[1-9][0-9]{1,14}$'), -- E.164
  ADD COLUMN locale            text NOT NULL DEFAULT 'en',
  ADD COLUMN tz                text NOT NULL DEFAULT 'UTC', -- IANA zone, for quiet hours
  ADD COLUMN private_receipts  boolean NOT NULL DEFAULT false; -- reads are kept, and told to nobody

ALTER TABLE conversations
  ADD COLUMN tenant_id           text NOT NULL DEFAULT '',
  ADD COLUMN kind                text NOT NULL DEFAULT 'group'
    CHECK (kind IN ('direct', 'group', 'channel')),
  -- Messages up to here were removed by retention: clients do not take them for a gap.
  ADD COLUMN purged_through_seq  bigint NOT NULL DEFAULT 0,
  ADD COLUMN retention_days      integer CHECK (retention_days >= 1),
  ADD COLUMN legal_hold          boolean NOT NULL DEFAULT false,
  ADD COLUMN encrypted           boolean NOT NULL DEFAULT false,
  -- text: full text of plain messages; blind: keyed hashes of words; none: not found by words
  ADD COLUMN search_mode         text NOT NULL DEFAULT 'text'
    CHECK (search_mode IN ('text', 'blind', 'none')),
  ADD CHECK (NOT encrypted OR search_mode <> 'text'),
  ADD CHECK (0 <= purged_through_seq AND purged_through_seq <= last_seq);

CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;

ALTER TABLE conversation_members
  ADD COLUMN role          text NOT NULL DEFAULT 'member' CHECK (role IN ('owner', 'admin', 'member')),
  ADD COLUMN joined_seq    bigint NOT NULL DEFAULT 0, -- sees messages above this one
  ADD COLUMN notify_level  text NOT NULL DEFAULT 'all'
    CHECK (notify_level IN ('all', 'mentions', 'none')),
  ADD COLUMN muted_until   timestamptz;

ALTER TABLE messages
  ALTER COLUMN body DROP NOT NULL, -- null: encrypted, or deleted
  ADD COLUMN ciphertext  bytea,
  ADD COLUMN key_id      uuid,
  ADD COLUMN version     integer NOT NULL DEFAULT 1, -- grows with every edit
  ADD COLUMN mentions    uuid[] NOT NULL DEFAULT '{}',
  ADD COLUMN edited_at   timestamptz,
  ADD COLUMN deleted_at  timestamptz, -- soft: contents are gone, the row and its number stay
  ADD CHECK ((ciphertext IS NULL) = (key_id IS NULL)),
  ADD CHECK (body IS NULL OR ciphertext IS NULL),
  ADD CHECK (deleted_at IS NOT NULL OR body IS NOT NULL OR ciphertext IS NOT NULL);

CREATE INDEX messages_age ON messages (created_at, id);
CREATE INDEX messages_deleted ON messages (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX messages_by_key ON messages (key_id, id) WHERE key_id IS NOT NULL;

ALTER TABLE message_deliveries
  ADD COLUMN failed_at   timestamptz, -- last failure on the way to the recipient; cleared on advance
  ADD COLUMN error_code  text;

-- Who read a message, in small conversations alone; the member's watermark is the truth.
CREATE TABLE message_reads (
  message_id  uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
  user_id     uuid NOT NULL,
  read_at     timestamptz NOT NULL,
  PRIMARY KEY (message_id, user_id)
);

-- Who did what to whose data: decryptions that store, shredded keys, retention, policy changes.
CREATE TABLE audit_log (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT now(),
  actor    text NOT NULL,
  action   text NOT NULL,
  subject  jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX audit_log_at ON audit_log (at);
