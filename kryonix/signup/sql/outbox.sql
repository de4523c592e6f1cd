-- insert_event --
INSERT INTO signup.outbox (event, tenant, payload) VALUES (%(event)s, %(tenant)s, %(payload)s);

-- take_events --
-- The oldest unpublished events, locked until the transaction ends.
SELECT id, event, tenant, payload, created_at FROM signup.outbox
WHERE published_at IS NULL ORDER BY created_at LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- mark_published --
UPDATE signup.outbox SET published_at = clock_timestamp() WHERE id = %(id)s;

-- forget_events --
WITH gone AS (
    DELETE FROM signup.outbox WHERE id IN (
        SELECT id FROM signup.outbox WHERE published_at < now() - make_interval(secs => %(seconds)s) LIMIT %(limit)s
    ) RETURNING id
)
SELECT count(*) AS count FROM gone;

-- count_unpublished --
SELECT count(*) AS count, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float AS oldest_s
FROM signup.outbox WHERE published_at IS NULL;
