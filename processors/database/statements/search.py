"""The search index: what goes in, what comes out, and what it is compared with."""

# ruff: noqa: S608 - statements are joined from constants of this file alone

from __future__ import annotations

from typing import Final

SOURCE: Final = """
SELECT m.id, m.conversation_id, m.sender_id, m.seq, m.created_at, m.version, m.kind, m.body,
  m.ciphertext, m.key_id, c.title, u.display_name, coalesce(u.locale, '') AS locale,
  CASE WHEN m.deleted_at IS NULL AND c.deleted_at IS NULL THEN c.search_mode ELSE 'none' END AS mode
FROM messages m
JOIN conversations c ON c.id = m.conversation_id
LEFT JOIN users u ON u.id = m.sender_id
WHERE m.id = ANY ($1::uuid[])
"""
"""Message ids: what is indexed of them, and how."""

# Writes entries from a relation l of locked messages; tells for each whether its entry changed.
_WRITE: Final = """, w AS (
  INSERT INTO message_search AS s
    (message_id, conversation_id, sender_id, seq, sent_at, version, lang, tsv, body_trgm, blind)
  SELECT id, conversation_id, sender_id, seq, created_at, version, lang, tsv, body_trgm, blind
  FROM l
  ON CONFLICT (message_id) DO UPDATE
  SET version = EXCLUDED.version, lang = EXCLUDED.lang, tsv = EXCLUDED.tsv,
    body_trgm = EXCLUDED.body_trgm, blind = EXCLUDED.blind, indexed_at = now()
  WHERE s.version < EXCLUDED.version OR (
    s.version = EXCLUDED.version
    AND (s.lang, s.tsv, s.body_trgm, s.blind)
      IS DISTINCT FROM (EXCLUDED.lang, EXCLUDED.tsv, EXCLUDED.body_trgm, EXCLUDED.blind)
  )
  RETURNING message_id
)
SELECT l.id, w.message_id IS NOT NULL AS is_written FROM l LEFT JOIN w ON w.message_id = l.id
"""

# The share lock keeps a message as it was read until its entry is there: a deletion, or the next
# version, waits and then finds the entry. Messages are locked by id, as everywhere.
WRITE_TEXT: Final = (
    """
WITH l AS MATERIALIZED (
  SELECT m.id, m.conversation_id, m.sender_id, m.seq, m.created_at, m.version, d.lang,
    setweight(to_tsvector(d.lang::regconfig, d.body), 'A')
      || setweight(to_tsvector(d.lang::regconfig, d.sender), 'C')
      || setweight(to_tsvector(d.lang::regconfig, d.title), 'D') AS tsv,
    nullif(d.trgm, '') AS body_trgm, NULL::bytea[] AS blind
  FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::text[]) AS d(id, version, lang, body, sender, title, trgm)
  JOIN messages m ON m.id = d.id AND m.version = d.version
  JOIN conversations c ON c.id = m.conversation_id
  WHERE m.deleted_at IS NULL AND m.body IS NOT NULL
    AND c.deleted_at IS NULL AND c.search_mode = 'text'
  ORDER BY m.id
  FOR SHARE OF m
)"""
    + _WRITE
)
"""One array each: ids, versions, languages, texts, senders, titles, trigram texts."""

WRITE_BLIND: Final = (
    """
WITH t AS MATERIALIZED (
  SELECT id, array_agg(term ORDER BY term) AS blind
  FROM unnest($4::uuid[], $5::bytea[]) AS t(id, term) GROUP BY id
), l AS MATERIALIZED (
  SELECT m.id, m.conversation_id, m.sender_id, m.seq, m.created_at, m.version, d.lang,
    NULL::tsvector AS tsv, NULL::text AS body_trgm, coalesce(t.blind, '{}') AS blind
  FROM unnest($1::uuid[], $2::integer[], $3::text[]) AS d(id, version, lang)
  JOIN messages m ON m.id = d.id AND m.version = d.version
  JOIN conversations c ON c.id = m.conversation_id
  LEFT JOIN t ON t.id = d.id
  WHERE m.deleted_at IS NULL AND c.deleted_at IS NULL AND c.search_mode = 'blind'
  ORDER BY m.id
  FOR SHARE OF m
)"""
    + _WRITE
)
"""One array each: ids, versions, languages; then, for each hash, its message and itself."""

_DELETE: Final = """
WITH l AS MATERIALIZED (
  SELECT message_id FROM message_search WHERE message_id = ANY ($1::uuid[]) {which}
  ORDER BY message_id FOR UPDATE
)
DELETE FROM message_search s USING l WHERE s.message_id = l.message_id RETURNING s.message_id
"""
DELETE_TEXT: Final = _DELETE.format(which="AND tsv IS NOT NULL")
DELETE_BLIND: Final = _DELETE.format(which="AND blind IS NOT NULL")

_ENTRIES: Final = """
SELECT message_id, version, lang FROM message_search WHERE message_id = ANY ($1::uuid[])
"""
ENTRIES_TEXT: Final = f"{_ENTRIES} AND tsv IS NOT NULL"
ENTRIES_BLIND: Final = f"{_ENTRIES} AND blind IS NOT NULL"

SCOPE: Final = """
SELECT m.conversation_id, c.search_mode AS mode, greatest(m.joined_seq, r.joined_seq) AS after_seq,
  r.left_at AS until
FROM conversation_members m
JOIN conversations c ON c.id = m.conversation_id
JOIN users u ON u.id = m.user_id
LEFT JOIN conversation_members r
  ON r.conversation_id = m.conversation_id AND r.user_id = $3::uuid
WHERE m.user_id = $1 AND m.left_at IS NULL AND u.disabled_at IS NULL
  AND c.deleted_at IS NULL AND c.search_mode <> 'none'
  AND ($2::uuid IS NULL OR m.conversation_id = $2)
  AND ($3::uuid IS NULL OR r.user_id IS NOT NULL)
"""
"""Who searches, where, and in what reached whom: the conversations that are looked through."""

RECENT: Final = """
SELECT c.id FROM unnest($1::uuid[]) AS c(id)
CROSS JOIN LATERAL (
  SELECT sent_at FROM message_search WHERE conversation_id = c.id ORDER BY sent_at DESC LIMIT 1
) s
ORDER BY s.sent_at DESC LIMIT $2
"""
"""Of these conversations the most recently used ones, how many."""

# $1 conversations, $2 above which sequence number, $3 until when; $4 sender, $5 not this sender,
# $6 sent since, $7 sent before, $8 kinds; $9, $10 below this place, $11, $12 at or above this one;
# $13 how many.
_SCOPE: Final = """
  unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS scope(conversation_id, after_seq, until)
"""
_SEEN: Final = """
    JOIN messages m ON m.id = s.message_id
    WHERE m.deleted_at IS NULL AND s.seq > scope.after_seq
      AND (scope.until IS NULL OR s.sent_at <= scope.until)
      AND ($4::uuid IS NULL OR s.sender_id = $4) AND ($5::uuid IS NULL OR s.sender_id <> $5)
      AND ($6::timestamptz IS NULL OR s.sent_at >= $6)
      AND ($7::timestamptz IS NULL OR s.sent_at < $7)
      AND ($8::text[] IS NULL OR m.kind = ANY ($8))
      AND ($9::timestamptz IS NULL OR (s.sent_at, s.message_id) < ($9, $10::uuid))
      AND ($11::timestamptz IS NULL OR (s.sent_at, s.message_id) >= ($11, $12::uuid))
    ORDER BY s.sent_at DESC, s.message_id DESC LIMIT $13
"""
_QUERIES: Final = """
WITH q AS MATERIALIZED (
  SELECT lang, websearch_to_tsquery(lang::regconfig, $14) AS query FROM unnest($15::text[]) AS lang
), a AS MATERIALIZED (
  -- One look into the index serves all languages; the entry's own one then decides.
  SELECT string_agg('(' || query::text || ')', '|')::tsquery AS query FROM q
  WHERE numnode(query) > 0
)
SELECT f.message_id, f.conversation_id, f.sent_at, f.rank FROM (
  SELECT h.message_id, h.conversation_id, h.sent_at,
    coalesce((SELECT ts_rank_cd(h.tsv, q.query, 1) FROM q
      WHERE q.lang = h.lang AND numnode(q.query) > 0), 0)::float8 AS rank
  FROM ("""

SEARCH_WORDS: Final = (
    _QUERIES
    + """
    SELECT s.message_id, s.conversation_id, s.sent_at, s.lang, s.tsv
    FROM a CROSS JOIN"""
    + _SCOPE
    + """
    JOIN message_search s ON s.conversation_id = scope.conversation_id AND s.tsv @@ a.query
      AND (s.body_trgm IS NULL OR s.body_trgm NOT LIKE ALL ($16::text[]))
    JOIN q ON q.lang = s.lang AND s.tsv @@ q.query"""
    + _SEEN
    + """
  ) h
) f ORDER BY f.sent_at DESC, f.message_id DESC
"""
)
"""After those of the scope: the query, the languages in use, runs that must not be there."""

SEARCH_RUNS: Final = (
    _QUERIES
    + """
    SELECT s.message_id, s.conversation_id, s.sent_at, s.lang, s.tsv
    FROM"""
    + _SCOPE
    + """
    JOIN message_search s ON s.conversation_id = scope.conversation_id
      AND s.body_trgm LIKE $17::text AND s.body_trgm LIKE ALL ($18::text[])
      AND s.body_trgm NOT LIKE ALL ($16::text[])
    JOIN q ON q.lang = s.lang AND (numnode(q.query) = 0 OR s.tsv @@ q.query)"""
    + _SEEN
    + """
  ) h
) f ORDER BY f.sent_at DESC, f.message_id DESC
"""
)
"""After those of the words: a run that must be there, and further ones."""

SEARCH_BLIND: Final = (
    """
WITH v AS MATERIALIZED (
  SELECT conversation_id, array_agg(term) AS terms
  FROM unnest($14::uuid[], $15::integer[], $16::bytea[]) AS v(conversation_id, variant, term)
  GROUP BY conversation_id, variant
)
SELECT DISTINCT f.* FROM (
    SELECT s.message_id, s.conversation_id, s.sent_at, s.lang,
      m.version, m.body, m.ciphertext, m.key_id
    FROM v JOIN"""
    + _SCOPE
    + """
      ON scope.conversation_id = v.conversation_id
    JOIN message_search s ON s.conversation_id = v.conversation_id AND s.blind @> v.terms"""
    + _SEEN
    + """
) f ORDER BY f.sent_at DESC, f.message_id DESC
"""
)
"""After those of the scope: for each hash its conversation, its variant of the query, itself."""

PAGE: Final = """
WITH q AS MATERIALIZED (
  SELECT lang, websearch_to_tsquery(lang::regconfig, $3) AS query FROM unnest($4::text[]) AS lang
)
SELECT m.id, m.conversation_id, c.title, m.sender_id, u.display_name, m.seq, m.created_at, m.kind,
  m.body, coalesce(s.lang, 'simple') AS lang,
  CASE WHEN $3 <> '' AND m.body IS NOT NULL THEN ts_headline(
    q.lang::regconfig,
    -- Marks are taken out of the text, and "<" stands back while tags are looked for.
    translate(left(m.body, 20000), E'<\\x02\\x03\\x04', E'\\x04'),
    q.query,
    E'StartSel="\\x02", StopSel="\\x03", ShortWord=0, ' || CASE
      WHEN char_length(m.body) <= $5 THEN 'HighlightAll=true'
      ELSE 'MaxFragments=2, MinWords=8, MaxWords=30, FragmentDelimiter=" … "' END
  ) END AS headline
FROM messages m
JOIN conversations c ON c.id = m.conversation_id
JOIN conversation_members o ON o.conversation_id = m.conversation_id AND o.user_id = $1
LEFT JOIN message_search s ON s.message_id = m.id
LEFT JOIN users u ON u.id = m.sender_id
LEFT JOIN q ON q.lang = coalesce(s.lang, 'simple')
WHERE m.id = ANY ($2::uuid[]) AND m.deleted_at IS NULL AND c.deleted_at IS NULL
  AND o.left_at IS NULL AND m.seq > o.joined_seq
"""
"""Who looks, at which messages; words to mark, languages in use; shorter texts stay whole."""

_CHUNK: Final = """
SELECT id, seq, created_at, version, mode, body IS NOT NULL AS is_plain FROM (
  SELECT m.id, m.seq, m.created_at, m.version, m.body,
    CASE WHEN m.deleted_at IS NULL AND c.deleted_at IS NULL THEN c.search_mode ELSE 'none' END
      AS mode
  FROM messages m JOIN conversations c ON c.id = m.conversation_id
"""
CHUNK_OF_ALL: Final = (
    _CHUNK
    + """
  WHERE (m.created_at, m.id) > ($1::timestamptz, $2::uuid) AND m.created_at <= $3
  ORDER BY m.created_at, m.id LIMIT $4
) f ORDER BY created_at, id
"""
)
"""Above a place, up to a time, how many."""

CHUNK_OF_CONVERSATION: Final = (
    _CHUNK
    + """
  WHERE m.conversation_id = $1 AND m.seq > $2 AND m.seq <= $3
  ORDER BY m.seq LIMIT $4
) f ORDER BY seq
"""
)
"""Conversation, above a sequence number, up to one, how many."""

EXTENT_OF_ALL: Final = """
SELECT clock_timestamp() AS until, greatest(reltuples, 0)::bigint AS messages
FROM pg_class WHERE oid = 'messages'::regclass
"""
EXTENT_OF_CONVERSATION: Final = """
SELECT last_seq, last_seq - purged_through_seq AS messages FROM conversations WHERE id = $1
"""
