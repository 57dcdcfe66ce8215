-- Messages to many recipients, and how far each of them is.

CREATE TABLE message_batches (
  id            uuid PRIMARY KEY,
  created_by    uuid NOT NULL,
  spec          jsonb NOT NULL, -- the message; its content is removed once the batch has finished
  spec_hash     bytea NOT NULL, -- by which the same batch is told from another of its id
  total         integer NOT NULL CHECK (total >= 0),
  created_at    timestamptz NOT NULL DEFAULT now(),
  rate_at       timestamptz, -- nothing more is queued before this time
  worked_at     timestamptz NOT NULL DEFAULT now(), -- when a run last took it up
  changed_at    timestamptz NOT NULL DEFAULT now(), -- when the counts last changed
  counts        jsonb, -- as they were told last; of a finished batch, the summary
  cancelled_at  timestamptz,
  finished_at   timestamptz
) WITH (fillfactor = 50);

-- state: 0 waiting, 1 claimed until lease_until, 2 queued, 3 sent, 4 failed, 5 cancelled
CREATE TABLE batch_recipients (
  batch_id         uuid NOT NULL REFERENCES message_batches ON DELETE CASCADE,
  ordinal          integer NOT NULL,
  user_id          uuid NOT NULL,
  state            smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 5),
  child_id         uuid NOT NULL, -- id of the job and of the message: follows from batch and user
  conversation_id  uuid NOT NULL, -- direct: follows from sender and user
  claimed_by       text,
  lease_until      timestamptz,
  error_code       text,
  PRIMARY KEY (batch_id, ordinal),
  UNIQUE (batch_id, user_id)
) WITH (fillfactor = 70);

CREATE INDEX batch_recipients_open ON batch_recipients (batch_id, ordinal) WHERE state < 2;
CREATE INDEX batch_recipients_child ON batch_recipients (child_id);
