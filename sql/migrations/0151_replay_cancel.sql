-- A replay can be ended before its end.
ALTER TABLE replay DROP CONSTRAINT replay_state_check;
ALTER TABLE replay ADD CONSTRAINT replay_state_check CHECK (state IN ('running', 'done', 'cancelled'));
CREATE INDEX replay_by_endpoint ON replay (endpoint_id, created_at);
