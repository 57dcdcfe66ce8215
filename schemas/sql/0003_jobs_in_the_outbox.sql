-- Jobs that were committed with their cause: topic 'job', key the queue, payload the job's fields.

ALTER TABLE outbox
  ADD COLUMN failed_at  timestamptz, -- set aside: the row cannot become a job as it is
  ADD COLUMN error      text;

-- Insert a job in the caller's transaction; the relay brings it to its queue once that commits.
-- Returns the job's id: the one given, or one of its own, by which it is enqueued once.
CREATE FUNCTION enqueue_job(
  queue     text,
  type      text,
  data      jsonb,
  lane      text DEFAULT 'normal',
  id        text DEFAULT NULL,
  delay_ms  bigint DEFAULT NULL,
  ttl_ms    bigint DEFAULT NULL,
  key       text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  job_id text := coalesce(enqueue_job.id, 'o-' || gen_random_uuid()::text);
BEGIN
  IF (enqueue_job.queue ~ '^[A-Za-z0-9_.-]{1,64}$') IS NOT TRUE THEN
    RAISE EXCEPTION 'queue % must match ^[A-Za-z0-9_.-]{1,64}$', quote_nullable(enqueue_job.queue)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF (enqueue_job.type ~ '^[a-z0-9][a-z0-9._-]{0,63}$') IS NOT TRUE THEN
    RAISE EXCEPTION 'job type % must match ^[a-z0-9][a-z0-9._-]{0,63}$',
      quote_nullable(enqueue_job.type) USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF jsonb_typeof(enqueue_job.data) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'data of job % must be a JSON object', job_id
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF (enqueue_job.lane IN ('critical', 'high', 'normal', 'low')) IS NOT TRUE THEN
    RAISE EXCEPTION 'lane % must be critical, high, normal or low', quote_nullable(enqueue_job.lane)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO outbox (topic, key, payload)
  VALUES ('job', enqueue_job.queue, jsonb_strip_nulls(jsonb_build_object(
    'id', job_id, 'type', enqueue_job.type, 'lane', enqueue_job.lane,
    'delay', enqueue_job.delay_ms, 'ttl', enqueue_job.ttl_ms, 'key', enqueue_job.key
  )) || jsonb_build_object('data', enqueue_job.data));
  RETURN job_id;
END
$$;
