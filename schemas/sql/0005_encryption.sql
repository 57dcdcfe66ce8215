-- Data keys, each wrapped by a key of the key provider; deleting one makes its data unreadable.

CREATE TABLE encryption_keys (
  id               uuid PRIMARY KEY,
  conversation_id  uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
  purpose          text NOT NULL CHECK (purpose IN ('data', 'index')),
  epoch            integer NOT NULL CHECK (epoch >= 1),
  kek_id           text NOT NULL,
  wrapped          bytea NOT NULL,
  state            text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired')),
  uses             bigint NOT NULL DEFAULT 0,
  created_at       timestamptz NOT NULL DEFAULT now(),
  UNIQUE (conversation_id, purpose, epoch)
);

CREATE INDEX encryption_keys_by_kek ON encryption_keys (kek_id, id);
