-- Attachments and their objects in the object store.
--
-- An upload is a row with a random key, then the object, then the row's state; a deletion moves
-- the key into object_deletions in the transaction that removes the row, then deletes the object,
-- then the ledger's row. So no object is without a row, and a crash leaves only work to repeat.

CREATE TABLE attachments (
  id              uuid PRIMARY KEY DEFAULT uuid_v7(),
  owner_id        uuid NOT NULL REFERENCES users,
  object_key      text COLLATE "C" NOT NULL UNIQUE, -- random, never used again; found by prefix
  thumbnail_keys  text[] NOT NULL DEFAULT '{}',
  state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'ready', 'attached')),
  media_type      text NOT NULL DEFAULT 'application/octet-stream',
  size            bigint CHECK (size >= 0),
  sha256          bytea CHECK (octet_length(sha256) = 32),
  created_at      timestamptz NOT NULL DEFAULT now(),
  expires_at      timestamptz NOT NULL -- unless it is attached by then
);

CREATE INDEX attachments_unclaimed ON attachments (expires_at) WHERE state <> 'attached';

CREATE TABLE message_attachments (
  message_id     uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
  attachment_id  uuid NOT NULL REFERENCES attachments,
  position       smallint NOT NULL,
  PRIMARY KEY (message_id, attachment_id)
);

CREATE INDEX message_attachments_attachment ON message_attachments (attachment_id);

CREATE TABLE object_deletions (
  key          text COLLATE "C" PRIMARY KEY,
  not_before   timestamptz NOT NULL DEFAULT now(),
  lease_until  timestamptz,
  lease_by     text, -- the job that deletes it; the same one may go on at once
  attempts     integer NOT NULL DEFAULT 0,
  last_error   text
);

CREATE INDEX object_deletions_due ON object_deletions (not_before);

-- Days that messages are kept. Hold before conversation, tenant, default.
CREATE TABLE retention_policies (
  scope_kind  text NOT NULL CHECK (scope_kind IN ('tenant', 'default')),
  scope_id    text NOT NULL DEFAULT '',
  days        integer CHECK (days >= 1), -- null: for ever
  PRIMARY KEY (scope_kind, scope_id)
);
