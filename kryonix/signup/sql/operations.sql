-- insert_operation --
-- Returns no row if an operation is in progress on the tenant, or if the caller has used the idempotency key.
INSERT INTO signup.operations
    (id, tenant, kind, request, key_id, idempotency_key, fingerprint, sealing_key)
VALUES (%(id)s, %(tenant)s, %(kind)s, %(request)s, %(key_id)s, %(idempotency_key)s,
        %(fingerprint)s, %(sealing_key)s)
ON CONFLICT DO NOTHING
RETURNING *;

-- complete_request --
-- Stores the completed request, once its tenant has been checked.
UPDATE signup.operations SET request = %(request)s, objects_total = %(objects_total)s WHERE id = %(id)s RETURNING *;

-- fetch_operation --
SELECT * FROM signup.operations WHERE id = %(id)s;

-- fetch_changed_operations --
-- Returns those operations whose revision differs from the one seen.
SELECT o.* FROM signup.operations AS o
JOIN unnest(%(ids)s::uuid[], %(revisions)s::int[]) AS seen (id, revision) ON o.id = seen.id
WHERE o.revision <> seen.revision;

-- fetch_by_idempotency_key --
SELECT * FROM signup.operations WHERE key_id = %(key_id)s AND idempotency_key = %(idempotency_key)s;

-- fetch_under_way --
-- The operation that blocks a new one. Settling blocks no requested operation: it gives way.
SELECT * FROM signup.operations
WHERE tenant = %(tenant)s AND status IN ('queued', 'running') AND (kind <> 'settle' OR %(settling)s)
LIMIT 1;

-- hold_tenant --
SELECT pg_advisory_xact_lock(hashtext('kryonix.signup.tenant'), hashtext(%(tenant)s));

-- fetch_settling --
SELECT * FROM signup.operations WHERE tenant = %(tenant)s AND status = 'running' AND kind = 'settle';

-- settled_in_vain --
-- Tenants that failed to settle. The pause before the next attempt doubles with each failure of the last day.
SELECT tenant FROM signup.operations
WHERE kind = 'settle' AND status = 'failed' AND ended_at > now() - interval '1 day'
GROUP BY tenant
HAVING max(ended_at) + least(power(2, count(*)) * interval '1 minute', interval '6 hours') > now();

-- fetch_last_operations --
-- The newest of each tenant: the one in progress, if there is one.
SELECT DISTINCT ON (tenant) * FROM signup.operations WHERE tenant = ANY(%(tenants)s)
ORDER BY tenant, created_at DESC;

-- fetch_operations --
SELECT * FROM signup.operations WHERE tenant = %(tenant)s ORDER BY created_at DESC LIMIT %(limit)s;

-- begin_operation --
-- Returns no row if it has ended.
UPDATE signup.operations
SET status = 'running', attempts = attempts + 1, objects_done = 0, doing = '', revision = revision + 1,
    started_at = coalesce(started_at, clock_timestamp())
WHERE id = %(id)s AND status IN ('queued', 'running')
RETURNING *;

-- note_progress --
UPDATE signup.operations SET objects_done = %(done)s, doing = %(doing)s, revision = revision + 1
WHERE id = %(id)s AND status = 'running';

-- postpone_operation --
-- Waits for its next attempt; the problem is the last attempt's.
UPDATE signup.operations SET status = 'queued', problem = %(problem)s, revision = revision + 1
WHERE id = %(id)s AND status = 'running';

-- leave_operation --
-- Left unchanged for another worker; the reason is written once.
UPDATE signup.operations SET problem = %(problem)s, revision = revision + 1
WHERE id = %(id)s AND status IN ('queued', 'running') AND problem IS DISTINCT FROM %(problem)s;

-- end_operation --
UPDATE signup.operations
SET status = %(status)s, problem = %(problem)s, result = %(result)s, sealed = %(sealed)s, doing = '',
    objects_done = CASE WHEN %(status)s = 'succeeded' THEN objects_total ELSE objects_done END,
    revision = revision + 1, ended_at = clock_timestamp()
WHERE id = %(id)s AND status = 'running'
RETURNING *;

-- deliver_credentials --
UPDATE signup.operations SET sealed = NULL, delivered_at = clock_timestamp(), revision = revision + 1
WHERE id = %(id)s AND sealed IS NOT NULL
RETURNING id;

-- forget_credentials --
-- Credentials not fetched in time.
UPDATE signup.operations SET sealed = NULL, revision = revision + 1
WHERE sealed IS NOT NULL AND ended_at < now() - make_interval(secs => %(seconds)s);

-- forget_operations --
-- In portions, as a statement has a time limit; likewise the other forget_ queries.
WITH gone AS (
    DELETE FROM signup.operations WHERE id IN (
        SELECT id FROM signup.operations WHERE ended_at < now() - make_interval(secs => %(seconds)s) LIMIT %(limit)s
    ) RETURNING id
)
SELECT count(*) AS count FROM gone;

-- fetch_without_job --
-- In progress without a job: the job ended before the operation.
SELECT o.id, o.tenant FROM signup.operations AS o
WHERE o.status IN ('queued', 'running') AND NOT EXISTS (
    SELECT 1 FROM signup.procrastinate_jobs AS j
    WHERE j.status IN ('todo', 'doing') AND j.args ->> 'operation_id' = o.id::text
)
ORDER BY o.created_at
FOR UPDATE OF o SKIP LOCKED;

-- count_operations --
SELECT status, kind, count(*) AS count FROM signup.operations GROUP BY status, kind;

-- count_ended --
-- All ever ended, with those that are deleted by now. Converging is stored as a change.
SELECT kind, status, sum(count)::bigint AS count FROM (
    SELECT CASE WHEN request ? 'converge' THEN 'converge' ELSE kind END AS kind, status, count(*) AS count
    FROM signup.operations WHERE status IN ('succeeded', 'failed') GROUP BY 1, 2
    UNION ALL
    SELECT kind, status, count FROM signup.forgotten_operations WHERE status IN ('succeeded', 'failed')
) AS ended
GROUP BY kind, status;

-- fetch_outcomes --
-- Each tenant's newest operation. A tenant that was removed has none.
SELECT tenant, kind, status = 'failed' AS failed FROM (
    SELECT DISTINCT ON (tenant)
        tenant, CASE WHEN request ? 'converge' THEN 'converge' ELSE kind END AS kind, status
    FROM signup.operations ORDER BY tenant, created_at DESC
) AS newest
WHERE (kind, status) <> ('remove', 'succeeded')
ORDER BY tenant;

-- oldest_waiting --
SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float AS seconds
FROM signup.operations WHERE status = 'queued';

-- registry_status --
-- The status of a tenant of this id that any stack has created.
SELECT status FROM tenants.rabbitmq_configurations WHERE cliente_id = %(tenant)s;

-- worker_alive --
SELECT 1 FROM signup.procrastinate_workers
WHERE id = %(id)s AND last_heartbeat > now() - make_interval(secs => %(seconds)s);

-- workers_alive --
SELECT count(*) AS count FROM signup.procrastinate_workers
WHERE last_heartbeat > now() - make_interval(secs => %(seconds)s);

-- hold_placement --
-- One placement at a time, so that each sees the previous one's load.
SELECT pg_advisory_xact_lock(hashtext('kryonix.signup.placement'));

-- fetch_creations_under_way --
-- Tenants with a cell and without a registry row.
SELECT o.request FROM signup.operations AS o
WHERE o.kind = 'create' AND o.status IN ('queued', 'running') AND o.request ->> 'cell' IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM tenants.desired_states AS d WHERE d.cliente_id = o.tenant AND d.status <> 'removed');
