-- Data keys, each wrapped by a key of the key provider; without its wrapped form, what it sealed is
-- lost for ever. A shredded key leaves its row, so that this is told from a row that went missing.

CREATE TABLE encryption_keys (
  id               uuid PRIMARY KEY,
  conversation_id  uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
  purpose          text NOT NULL CHECK (purpose IN ('data', 'index')),
  epoch            integer NOT NULL CHECK (epoch >= 1),
  kek_id           text NOT NULL,
  wrapped          bytea,
  state            text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired', 'shredded')),
  uses             bigint NOT NULL DEFAULT 0, -- booked in blocks, so never fewer than there were
  created_at       timestamptz NOT NULL DEFAULT now(),
  UNIQUE (conversation_id, purpose, epoch),
  CHECK ((state = 'shredded') = (wrapped IS NULL))
);

CREATE INDEX encryption_keys_retired ON encryption_keys (id) WHERE state = 'retired';

-- Versions of messages that their keys do not open: kept as they are, and left out of rotation.
CREATE TABLE encryption_quarantine (
  message_id  uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
  version     integer NOT NULL,
  key_id      uuid NOT NULL,
  code        text NOT NULL,
  found_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (message_id, version)
);

-- The tenant is authenticated with every content: with another one, none would open.
CREATE FUNCTION keep_tenant_of_keys() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF EXISTS (SELECT FROM encryption_keys k WHERE k.conversation_id = NEW.id) THEN
    RAISE EXCEPTION 'conversation % has data keys: its tenant cannot change', NEW.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER conversations_keep_tenant BEFORE UPDATE OF tenant_id ON conversations
  FOR EACH ROW WHEN (NEW.tenant_id IS DISTINCT FROM OLD.tenant_id)
  EXECUTE FUNCTION keep_tenant_of_keys();
