-- Notifications (the in-app list itself), their deliveries over channels, and what steers them.

CREATE TABLE push_targets (
  id             uuid PRIMARY KEY DEFAULT uuid_v7(),
  user_id        uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  device_id      text NOT NULL DEFAULT '',
  provider       text NOT NULL CHECK (provider IN ('fcm', 'apns', 'webpush')),
  kind           text NOT NULL DEFAULT 'token' CHECK (kind IN ('token', 'fid', 'subscription')),
  token          text NOT NULL, -- for web push: the endpoint
  keys           jsonb NOT NULL DEFAULT '{}', -- for web push: p256dh and auth
  app_id         text NOT NULL DEFAULT '',
  environment    text NOT NULL DEFAULT 'production' CHECK (environment IN ('production', 'sandbox')),
  registered_at  timestamptz NOT NULL DEFAULT now(),
  disabled_at    timestamptz,
  reason         text,
  UNIQUE (provider, app_id, token)
);

CREATE INDEX push_targets_user ON push_targets (user_id) WHERE disabled_at IS NULL;
CREATE INDEX push_targets_disabled ON push_targets (disabled_at) WHERE disabled_at IS NOT NULL;

-- type and channel may be '*'. scope: the user's own, one conversation's, or the tenant's default.
CREATE TABLE notification_preferences (
  user_id     uuid NOT NULL,
  scope_kind  text NOT NULL DEFAULT 'user' CHECK (scope_kind IN ('user', 'conversation')),
  scope_id    text NOT NULL DEFAULT '',
  type        text NOT NULL,
  channel     text NOT NULL CHECK (channel IN ('push', 'email', 'sms', 'in_app', '*')),
  enabled     boolean NOT NULL,
  digest      boolean NOT NULL DEFAULT false, -- gather and send together
  PRIMARY KEY (user_id, scope_kind, scope_id, type, channel)
);

CREATE TABLE notification_defaults (
  tenant_id  text NOT NULL DEFAULT '',
  type       text NOT NULL,
  channel    text NOT NULL CHECK (channel IN ('push', 'email', 'sms', 'in_app', '*')),
  enabled    boolean NOT NULL,
  digest     boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant_id, type, channel)
);

CREATE TABLE quiet_hours (
  user_id  uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  starts   time NOT NULL,
  ends     time NOT NULL, -- at or before starts: the window crosses midnight
  days     smallint NOT NULL DEFAULT 127 CHECK (days BETWEEN 1 AND 127), -- bit 0 Monday, of the start
  tz       text, -- null: the user's
  PRIMARY KEY (user_id, starts),
  CHECK (starts < '24:00' AND ends < '24:00') -- midnight is 00:00
);

-- Addresses that must not be written to, by hash: no list of addresses lies around.
CREATE TABLE suppressions (
  channel       text NOT NULL CHECK (channel IN ('push', 'email', 'sms')),
  address_hash  bytea NOT NULL CHECK (octet_length(address_hash) = 32),
  reason        text NOT NULL, -- bounce, complaint, stop, unsubscribe
  until         timestamptz, -- null: until somebody lifts it
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (channel, address_hash)
);

CREATE TABLE notifications (
  id               uuid PRIMARY KEY DEFAULT uuid_v7(),
  user_id          uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  type             text NOT NULL,
  dedup_key        text NOT NULL,
  conversation_id  uuid REFERENCES conversations ON DELETE CASCADE,
  message_id       uuid REFERENCES messages ON DELETE CASCADE,
  seq              bigint, -- read once the member has read up to here
  payload          jsonb NOT NULL DEFAULT '{}',
  listed           boolean NOT NULL DEFAULT true, -- false: leads to deliveries alone
  created_at       timestamptz NOT NULL DEFAULT now(),
  read_at          timestamptz,
  expires_at       timestamptz,
  UNIQUE (user_id, dedup_key)
);

CREATE INDEX notifications_list ON notifications (user_id, id) WHERE listed;
CREATE INDEX notifications_unread ON notifications (user_id, conversation_id, seq)
  WHERE read_at IS NULL;
CREATE INDEX notifications_message ON notifications (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX notifications_conversation ON notifications (conversation_id, user_id, seq)
  WHERE conversation_id IS NOT NULL;
CREATE INDEX notifications_age ON notifications (created_at);
CREATE INDEX notifications_read ON notifications (read_at) WHERE read_at IS NOT NULL;
CREATE INDEX notifications_expiry ON notifications (expires_at) WHERE expires_at IS NOT NULL;

-- One way to one target over one channel. target_id is the push target, or the user. What is
-- 'sending' may have left: after its lease, only a repetition that the provider folds is safe.
CREATE TABLE notification_deliveries (
  id               uuid PRIMARY KEY DEFAULT uuid_v7(),
  notification_id  uuid NOT NULL REFERENCES notifications ON DELETE CASCADE,
  user_id          uuid NOT NULL,
  channel          text NOT NULL CHECK (channel IN ('push', 'email', 'sms', 'in_app')),
  target_id        uuid NOT NULL,
  state            text NOT NULL DEFAULT 'pending' CHECK (state IN (
    'pending', 'sending', 'sent', 'delivered', 'failed', 'dropped', 'cancelled', 'unknown',
    'digested')),
  attempts         integer NOT NULL DEFAULT 0,
  lease_until      timestamptz,
  first_tried_at   timestamptz, -- of the requests whose end is not known
  last_tried_at    timestamptz,
  address_hash     bytea CHECK (octet_length(address_hash) = 32), -- whom it went to
  provider_id      text,
  error_code       text,
  next_at          timestamptz,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  UNIQUE (notification_id, channel, target_id)
);

CREATE INDEX notification_deliveries_open ON notification_deliveries (next_at)
  WHERE state IN ('pending', 'sending');
CREATE INDEX notification_deliveries_provider ON notification_deliveries (channel, provider_id)
  WHERE provider_id IS NOT NULL;

CREATE TABLE notification_digests (
  user_id          uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  channel          text NOT NULL CHECK (channel IN ('push', 'email', 'sms')),
  conversation_id  uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
  due_at           timestamptz NOT NULL,
  n                integer NOT NULL,
  first_seq        bigint NOT NULL,
  last_seq         bigint NOT NULL,
  PRIMARY KEY (user_id, channel, conversation_id)
);

CREATE INDEX notification_digests_due ON notification_digests (due_at);

-- How often one conversation wrote to one user over a channel that people tire of.
CREATE TABLE notification_paces (
  user_id          uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  channel          text NOT NULL CHECK (channel IN ('push', 'email', 'sms')),
  conversation_id  uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
  sent_at          timestamptz NOT NULL,
  delivery_id      uuid, -- whose sending that was
  told_at          timestamptz NOT NULL, -- the last time that there was something to tell
  gap_ms           bigint NOT NULL CHECK (gap_ms >= 0),
  PRIMARY KEY (user_id, channel, conversation_id)
);

CREATE INDEX notification_paces_age ON notification_paces (told_at);
