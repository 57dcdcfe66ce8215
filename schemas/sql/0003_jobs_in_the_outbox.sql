-- Jobs that were committed with their cause: topic 'job', key the queue, payload the job's fields.

ALTER TABLE outbox
  ADD COLUMN failed_at  timestamptz, -- set aside: the row cannot become a job as it is
  ADD COLUMN error      text;

-- A long line of one kind never stands in the way of the other, nor of other queues.
CREATE INDEX outbox_jobs ON outbox (key, id) WHERE topic = 'job' AND failed_at IS NULL;
CREATE INDEX outbox_events ON outbox (id) WHERE topic <> 'job';
CREATE INDEX outbox_set_aside ON outbox (failed_at) WHERE failed_at IS NOT NULL;

-- Insert a job in the caller's transaction; the relay brings it to its queue once that commits.
-- Returns the job's id: the one given, or one of its own, by which it is enqueued once.
CREATE FUNCTION enqueue_job(
  queue     text,
  type      text,
  data      jsonb,
  lane      text DEFAULT 'normal',
  id        text DEFAULT NULL,
  delay_ms  bigint DEFAULT NULL, -- counts from the start of the transaction, and so does ttl_ms
  ttl_ms    bigint DEFAULT NULL,
  key       text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  job_id text := coalesce(enqueue_job.id, 'o-' || gen_random_uuid()::text);
  -- Lengths apart from characters: PostgreSQL is slow at patterns with bounded repetitions.
  fault  text := CASE
    WHEN (char_length(enqueue_job.queue) BETWEEN 1 AND 64
        AND enqueue_job.queue !~ '[^A-Za-z0-9_.-]') IS NOT TRUE THEN
      format('queue %s must match ^[A-Za-z0-9_.-]{1,64}$', quote_nullable(enqueue_job.queue))
    WHEN (char_length(enqueue_job.type) BETWEEN 1 AND 64 AND enqueue_job.type ~ '^[a-z0-9]'
        AND enqueue_job.type !~ '[^a-z0-9._-]') IS NOT TRUE THEN
      format('job type %s must match ^[a-z0-9][a-z0-9._-]{0,63}$', quote_nullable(enqueue_job.type))
    WHEN jsonb_typeof(enqueue_job.data) IS DISTINCT FROM 'object' THEN
      format('data of job %s must be a JSON object', job_id)
    WHEN octet_length(enqueue_job.data::text) > 1048576 THEN
      format('data of job %s has over 1 MiB', job_id)
    WHEN (enqueue_job.lane IN ('critical', 'high', 'normal', 'low')) IS NOT TRUE THEN
      format('lane %s must be critical, high, normal or low', quote_nullable(enqueue_job.lane))
    WHEN char_length(job_id) NOT BETWEEN 1 AND 128 OR job_id ~ '\s' THEN
      'id must have 1 to 128 characters and no spaces'
    WHEN char_length(enqueue_job.key) NOT BETWEEN 1 AND 128 OR enqueue_job.key ~ '\s' THEN
      'key must have 1 to 128 characters and no spaces'
    WHEN enqueue_job.delay_ms NOT BETWEEN 0 AND 31622400000 THEN
      'delay_ms must be 0 to 366 days'
    WHEN enqueue_job.ttl_ms NOT BETWEEN 0 AND 31622400000 THEN
      'ttl_ms must be 0 to 366 days'
  END;
BEGIN
  IF fault IS NOT NULL THEN
    RAISE EXCEPTION '%', fault USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO outbox (topic, key, payload)
  VALUES ('job', enqueue_job.queue, jsonb_strip_nulls(jsonb_build_object(
    'id', job_id, 'type', enqueue_job.type, 'lane', enqueue_job.lane,
    'delay', enqueue_job.delay_ms, 'ttl', enqueue_job.ttl_ms, 'key', enqueue_job.key
  )) || jsonb_build_object('data', enqueue_job.data));
  RETURN job_id;
END
$$;

-- Which relay brings a queue's jobs over, until when: one at a time, so that they keep their order.
CREATE TABLE outbox_queues (
  queue         text PRIMARY KEY,
  relay         uuid NOT NULL,
  leased_until  timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Lease the queues that have jobs here and that no other relay holds, and return their oldest jobs:
-- a share of jobs_max and bytes_max for each queue, at least one job. A row without an id names a
-- queue that another relay holds.
CREATE FUNCTION claim_jobs(
  relay     uuid,
  jobs_max  integer,
  bytes_max bigint,
  lease_ms  bigint,
  skipped   text[]
) RETURNS TABLE (id bigint, queue text, created_ms bigint, fields text, data text)
LANGUAGE plpgsql VOLATILE
-- The table swings between empty and long, so its statistics say little: the indexes always serve.
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
  ours   text[];
  busy   text[];
  size   bigint;
  each   text;
  found  record;
BEGIN
  WITH RECURSIVE held AS (
    -- From queue to queue through the index, however many jobs lie between.
    SELECT (SELECT min(o.key) FROM outbox o WHERE o.topic = 'job' AND o.failed_at IS NULL) AS queue
    UNION ALL
    SELECT (SELECT min(o.key) FROM outbox o
      WHERE o.topic = 'job' AND o.failed_at IS NULL AND o.key > held.queue)
    FROM held WHERE held.queue IS NOT NULL
  ), wanted AS (
    SELECT queue FROM held WHERE queue IS NOT NULL AND queue <> ALL (claim_jobs.skipped)
  ), leased AS (
    INSERT INTO outbox_queues AS q (queue, relay, leased_until)
    SELECT w.queue, claim_jobs.relay,
      clock_timestamp() + claim_jobs.lease_ms * interval '1 millisecond'
    FROM wanted w ORDER BY w.queue
    ON CONFLICT (queue) DO UPDATE
      SET relay = excluded.relay, leased_until = excluded.leased_until
      WHERE q.relay = excluded.relay OR q.leased_until <= clock_timestamp()
    RETURNING q.queue
  )
  SELECT array_agg(l.queue ORDER BY l.queue),
    array_agg(w.queue ORDER BY w.queue) FILTER (WHERE l.queue IS NULL)
  INTO ours, busy
  FROM wanted w LEFT JOIN leased l USING (queue);

  FOREACH each IN ARRAY coalesce(busy, '{}') LOOP
    id := NULL;
    queue := each;
    RETURN NEXT;
  END LOOP;
  ours := array_remove(ours, NULL);
  -- A statement of its own sees what the queue's last relay has deleted.
  FOREACH each IN ARRAY coalesce(ours, '{}') LOOP
    size := 0;
    FOR found IN
      SELECT o.id, o.created_at, o.payload FROM outbox o
      WHERE o.topic = 'job' AND o.failed_at IS NULL AND o.key = each
      ORDER BY o.id LIMIT greatest(1, claim_jobs.jobs_max / cardinality(ours))
    LOOP
      id := found.id;
      queue := each;
      created_ms := floor(extract(epoch FROM found.created_at) * 1000)::bigint;
      fields := CASE WHEN jsonb_typeof(found.payload) = 'object'
        THEN (found.payload - 'data')::text END;
      data := (found.payload -> 'data')::text;
      RETURN NEXT;
      size := size + coalesce(octet_length(data), 0);
      EXIT WHEN size >= claim_jobs.bytes_max / cardinality(ours);
    END LOOP;
  END LOOP;
END
$$;
