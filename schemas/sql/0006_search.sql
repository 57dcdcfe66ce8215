-- What messages are found by. A table of its own: no write amplification on messages, and it can be
-- built anew. The language is text, since a regconfig column would block pg_upgrade.

CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;

-- An entry is made of plain text (tsv), or of keyed hashes (blind), never of both.
CREATE TABLE message_search (
  message_id       uuid PRIMARY KEY REFERENCES messages ON DELETE CASCADE,
  conversation_id  uuid NOT NULL,
  sender_id        uuid NOT NULL,
  seq              bigint NOT NULL,
  sent_at          timestamptz NOT NULL,
  kind             text NOT NULL DEFAULT 'text',
  version          integer NOT NULL,
  lang             text NOT NULL DEFAULT 'simple',
  tsv              tsvector,
  body_trgm        text,    -- for scripts without spaces between words, in a form of its own
  blind            bytea[], -- keyed hashes of words, for encrypted conversations
  indexed_at       timestamptz NOT NULL DEFAULT now(),
  CHECK (blind IS NULL OR (tsv IS NULL AND body_trgm IS NULL))
);

-- Whoever searches sees some conversations: with these in the index a common word costs what it
-- costs there, not in the whole table.
CREATE INDEX message_search_tsv ON message_search USING gin (conversation_id, tsv)
  WITH (fastupdate = off) WHERE tsv IS NOT NULL;
CREATE INDEX message_search_trgm ON message_search
  USING gin (conversation_id, body_trgm gin_trgm_ops)
  WITH (fastupdate = off) WHERE body_trgm IS NOT NULL;
CREATE INDEX message_search_blind ON message_search USING gin (conversation_id, blind)
  WITH (fastupdate = off) WHERE blind IS NOT NULL;
CREATE INDEX message_search_place ON message_search (conversation_id, sent_at, message_id);
