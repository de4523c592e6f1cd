-- try_lock_rollouts --
-- Held by the session: it ends with the process that runs the rollout.
SELECT pg_try_advisory_lock(hashtext('kryonix.rollouts')) AS held;

-- begin_rollout --
-- Unfinished older rollouts are superseded: only the newest can be resumed.
WITH given_up AS (
    UPDATE tenants.rollouts SET status = 'superseded', ended_at = coalesce(ended_at, clock_timestamp())
    WHERE status IN ('running', 'incomplete', 'stopped')
)
INSERT INTO tenants.rollouts (concurrency, failure_budget, holder)
VALUES (%(concurrency)s, %(failure_budget)s, %(holder)s)
RETURNING id;

-- add_rollout_tenants --
-- The tenants of one wave, in order.
INSERT INTO tenants.rollout_tenants (rollout, cliente_id, wave, place)
SELECT %(rollout)s, t.cliente_id, %(wave)s, t.place
FROM unnest(%(tenants)s::text[]) WITH ORDINALITY AS t (cliente_id, place);

-- add_unchanged_tenants --
-- The tenants that it leaves out, in no wave.
INSERT INTO tenants.rollout_tenants (rollout, cliente_id, place, status)
SELECT %(rollout)s, t.cliente_id, t.place, 'unchanged'
FROM unnest(%(tenants)s::text[]) WITH ORDINALITY AS t (cliente_id, place);

-- resume_rollout --
-- Interrupted and failed tenants are tried again.
WITH again AS (
    UPDATE tenants.rollout_tenants SET status = 'pending', error = '', updated_at = clock_timestamp()
    WHERE rollout = %(rollout)s AND status IN ('running', 'failed')
)
UPDATE tenants.rollouts
SET status = 'running', ended_at = NULL, holder = %(holder)s, concurrency = %(concurrency)s,
    failure_budget = %(failure_budget)s
WHERE id = %(rollout)s;

-- fetch_latest_rollout --
SELECT id, status, concurrency, failure_budget, holder, started_at, ended_at
FROM tenants.rollouts
ORDER BY id DESC
LIMIT 1;

-- fetch_rollout_tenants --
SELECT cliente_id, wave, status, changes, seconds, error
FROM tenants.rollout_tenants
WHERE rollout = %(rollout)s
ORDER BY wave, place;

-- note_rollout_tenant --
UPDATE tenants.rollout_tenants
SET status = %(status)s, changes = %(changes)s, seconds = %(seconds)s, error = %(error)s,
    updated_at = clock_timestamp()
WHERE rollout = %(rollout)s AND cliente_id = %(cliente_id)s;

-- end_rollout --
UPDATE tenants.rollouts
SET status = %(status)s, ended_at = clock_timestamp()
WHERE id = %(rollout)s;
