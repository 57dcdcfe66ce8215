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
    (message_id, conversation_id, sender_id, seq, sent_at, kind, version, lang, tsv, body_trgm,
     blind)
  SELECT id, conversation_id, sender_id, seq, created_at, kind, version, lang, tsv, body_trgm, blind
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
  SELECT m.id, m.conversation_id, m.sender_id, m.seq, m.created_at, m.kind, m.version, d.lang,
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
  SELECT m.id, m.conversation_id, m.sender_id, m.seq, m.created_at, m.kind, m.version, d.lang,
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

CUSTOM_PLAN: Final = "SET LOCAL plan_cache_mode = force_custom_plan"
"""
Searches are planned for their values: a common word is found by walking down from the newest
message, a rare one by the GIN index, and only its frequency tells which.
"""

QUERIES: Final = """
SELECT lang, query::text AS query, numnode(query) > 0 AS is_asking
FROM (
  SELECT lang, websearch_to_tsquery(lang::regconfig, $1) AS query FROM unnest($2::text[]) AS lang
) q
"""
"""Words, the languages in use: what is asked for in each; stop words alone ask for nothing."""

# $1 conversations, $2 above which sequence number, $3 until when; $4 sender, $5 not this sender,
# $6 sent since, $7 sent before, $8 kinds; $9, $10 below this place, $11, $12 at or above this one;
# $13 how many. Each conversation gives its newest ones, of which the newest are taken.
_SCOPE: Final = """
FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS scope(conversation_id, after_seq, until)
"""
_SEEN: Final = """
    AND s.seq > scope.after_seq AND s.sent_at <= scope.until
    AND ($4::uuid IS NULL OR s.sender_id = $4) AND ($5::uuid IS NULL OR s.sender_id <> $5)
    AND ($6::timestamptz IS NULL OR s.sent_at >= $6)
    AND ($7::timestamptz IS NULL OR s.sent_at < $7)
    AND ($8::text[] IS NULL OR s.kind = ANY ($8))
    AND ($9::timestamptz IS NULL OR (s.sent_at, s.message_id) < ($9, $10::uuid))
    AND ($11::timestamptz IS NULL OR (s.sent_at, s.message_id) >= ($11, $12::uuid))
  ORDER BY s.sent_at DESC, s.message_id DESC LIMIT $13
"""
# In a CASE, since the planner would take it for a second condition that rarely holds.
_OWN: Final = "($14::text[]::tsquery[])[array_position($15::text[], {row}.lang)]"
"""The query in the language of an entry."""

_HITS: Final = (
    f"""
SELECT message_id, conversation_id, sent_at,
  coalesce(ts_rank_cd(tsv, {_OWN.format(row="n")}, 1), 0)::float8 AS rank
FROM (
SELECT h.*"""
    + _SCOPE
    + """CROSS JOIN LATERAL (
  SELECT s.message_id, s.conversation_id, s.sent_at, s.lang, s.tsv
  FROM message_search s WHERE s.conversation_id = scope.conversation_id AND {found}"""
    + _SEEN
    + """) h
ORDER BY h.sent_at DESC, h.message_id DESC LIMIT $13
) n ORDER BY sent_at DESC, message_id DESC
"""
)

SEARCH_WORDS: Final = _HITS.replace(
    "{found}",
    f"""s.tsv @@ $16::text::tsquery
    AND CASE WHEN s.tsv @@ {_OWN.format(row="s")} THEN true ELSE false END
    AND (s.body_trgm IS NULL OR s.body_trgm NOT LIKE ALL ($17::text[]))""",
)
"""
After those of the scope: queries and their languages, one query for all of them (one look into
the index serves all languages; the entry's own one decides), runs that must not be there.
"""

SEARCH_RUNS: Final = _HITS.replace(
    "{found}",
    f"""s.body_trgm LIKE $16::text AND s.body_trgm LIKE ALL ($18::text[])
    AND s.body_trgm NOT LIKE ALL ($17::text[])
    AND coalesce(s.tsv @@ {_OWN.format(row="s")}, true)""",
)
"""
After those of the scope: queries (null: nothing is asked) and their languages, a run that must be
there, runs that must not, and further ones that must.
"""

SEARCH_BLIND: Final = (
    """
WITH v AS MATERIALIZED (
  SELECT conversation_id, array_agg(term) AS terms
  FROM unnest($14::uuid[], $15::integer[], $16::bytea[]) AS v(conversation_id, variant, term)
  GROUP BY conversation_id, variant
)
SELECT n.*, m.version, m.body, m.ciphertext, m.key_id
FROM (
SELECT DISTINCT ON (h.sent_at, h.message_id) h.*"""
    + _SCOPE
    + """JOIN v ON v.conversation_id = scope.conversation_id
CROSS JOIN LATERAL (
  SELECT s.message_id, s.conversation_id, s.sent_at, s.lang
  FROM message_search s
  WHERE s.conversation_id = scope.conversation_id AND s.blind @> v.terms"""
    + _SEEN
    + """) h
ORDER BY h.sent_at DESC, h.message_id DESC LIMIT $13
) n JOIN messages m ON m.id = n.message_id ORDER BY n.sent_at DESC, n.message_id DESC
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
