-- put_configuration --
-- A tenant that is created again after its removal reuses its row.
INSERT INTO tenants.rabbitmq_configurations (cliente_id, vhost, modulos_habilitados, plano, status)
VALUES (%(cliente_id)s, %(vhost)s, %(modulos)s, %(plano)s, %(status)s)
ON CONFLICT (cliente_id) DO UPDATE SET
    vhost = EXCLUDED.vhost,
    modulos_habilitados = EXCLUDED.modulos_habilitados,
    plano = EXCLUDED.plano,
    status = EXCLUDED.status,
    updated_at = now()
WHERE (rabbitmq_configurations.vhost, rabbitmq_configurations.modulos_habilitados, rabbitmq_configurations.plano,
       rabbitmq_configurations.status)
    IS DISTINCT FROM (EXCLUDED.vhost, EXCLUDED.modulos_habilitados, EXCLUDED.plano, EXCLUDED.status);

-- fetch_notify --
-- Not by the column's name: before the platform's next `up`, a registry of an older version does not have it.
SELECT to_jsonb(c) -> 'notify' AS notify FROM tenants.rabbitmq_configurations AS c WHERE cliente_id = %(cliente_id)s;

-- put_notify --
UPDATE tenants.rabbitmq_configurations SET notify = %(notify)s, updated_at = now() WHERE cliente_id = %(cliente_id)s;

-- put_credentials --
-- The tenant's user, and the hash that restores it.
INSERT INTO tenants.rabbitmq_credentials (cliente_id, username, password_hash, vhost)
VALUES (%(cliente_id)s, %(username)s, %(password_hash)s, %(vhost)s)
ON CONFLICT (cliente_id) DO UPDATE SET
    username = EXCLUDED.username,
    password_hash = EXCLUDED.password_hash,
    vhost = EXCLUDED.vhost,
    updated_at = now()
WHERE (rabbitmq_credentials.username, rabbitmq_credentials.password_hash, rabbitmq_credentials.vhost)
    IS DISTINCT FROM (EXCLUDED.username, EXCLUDED.password_hash, EXCLUDED.vhost);

-- retire_configuration --
-- A removed tenant's configuration is kept as history.
UPDATE tenants.rabbitmq_configurations
SET status = 'removido', updated_at = now()
WHERE cliente_id = %(cliente_id)s AND status <> 'removido';

-- delete_credentials --
DELETE FROM tenants.rabbitmq_credentials
WHERE cliente_id = %(cliente_id)s;

-- fetch_tenants --
-- One tenant, or all if cliente_id is null.
SELECT c.cliente_id, c.vhost, c.modulos_habilitados AS modulos, c.plano, c.status, to_jsonb(c) -> 'notify' AS notify,
    k.username, k.password_hash
FROM tenants.rabbitmq_configurations AS c
LEFT JOIN tenants.rabbitmq_credentials AS k USING (cliente_id)
WHERE %(cliente_id)s::text IS NULL OR c.cliente_id = %(cliente_id)s
ORDER BY c.cliente_id;

-- fetch_configurations --
-- All tenants without their credentials, which the exporter may not read.
SELECT cliente_id, vhost, modulos_habilitados AS modulos, plano, status, to_jsonb(c) -> 'notify' AS notify
FROM tenants.rabbitmq_configurations AS c
ORDER BY cliente_id;

-- fetch_desired_state --
SELECT cliente_id, modules, plan, status, cell, credentials_generation, retiring_generation, retiring_until,
    remove_after, applied_generation, applied_at, updated_at, to_jsonb(d) -> 'notify' AS notify,
    coalesce(to_jsonb(d) ->> 'auth', 'password') AS auth
FROM tenants.desired_states AS d
WHERE cliente_id = %(id)s;

-- lock_desired_state --
-- The same, locked until the transaction ends.
SELECT cliente_id, modules, plan, status, cell, credentials_generation, retiring_generation, retiring_until,
    remove_after, applied_generation, applied_at, updated_at, to_jsonb(d) -> 'notify' AS notify,
    coalesce(to_jsonb(d) ->> 'auth', 'password') AS auth
FROM tenants.desired_states AS d
WHERE cliente_id = %(id)s
FOR UPDATE;

-- fetch_desired_states --
-- All, or one cell's, ordered by id.
SELECT cliente_id, modules, plan, status, cell, credentials_generation, retiring_generation, retiring_until,
    remove_after, applied_generation, applied_at, updated_at, to_jsonb(d) -> 'notify' AS notify,
    coalesce(to_jsonb(d) ->> 'auth', 'password') AS auth
FROM tenants.desired_states AS d
WHERE %(cell)s::text IS NULL OR cell = %(cell)s
ORDER BY cliente_id;

-- fetch_due --
-- Tenants with an ended credentials overlap or grace period, or with an interrupted removal.
SELECT cliente_id, modules, plan, status, cell, credentials_generation, retiring_generation, retiring_until,
    remove_after, applied_generation, applied_at, updated_at, to_jsonb(d) -> 'notify' AS notify,
    coalesce(to_jsonb(d) ->> 'auth', 'password') AS auth
FROM tenants.desired_states AS d
WHERE (status <> 'removed' AND retiring_until <= now()) OR (status = 'offboarding' AND remove_after <= now())
    OR (status = 'removed' AND remove_after IS NOT NULL)
ORDER BY cliente_id;

-- put_desired_state --
-- clock_timestamp, not now: two writes in one transaction get two timestamps. A tenant that is created again after its
-- removal reuses its row and counts as never applied.
INSERT INTO tenants.desired_states AS d (cliente_id, modules, plan, status, cell, credentials_generation,
    retiring_generation, retiring_until, remove_after, updated_at)
VALUES (%(id)s, %(modules)s, %(plan)s, %(status)s, %(cell)s, %(credentials_generation)s,
    %(retiring_generation)s, %(retiring_until)s, %(remove_after)s, clock_timestamp())
ON CONFLICT (cliente_id) DO UPDATE SET
    modules = EXCLUDED.modules,
    plan = EXCLUDED.plan,
    status = EXCLUDED.status,
    cell = EXCLUDED.cell,
    credentials_generation = EXCLUDED.credentials_generation,
    retiring_generation = EXCLUDED.retiring_generation,
    retiring_until = EXCLUDED.retiring_until,
    remove_after = EXCLUDED.remove_after,
    applied_generation = CASE WHEN d.status = 'removed' AND EXCLUDED.status <> 'removed' THEN 0
        ELSE d.applied_generation END,
    applied_at = CASE WHEN d.status = 'removed' AND EXCLUDED.status <> 'removed' THEN NULL ELSE d.applied_at END,
    updated_at = EXCLUDED.updated_at
WHERE (d.modules, d.plan, d.status, d.cell, d.credentials_generation, d.retiring_generation, d.retiring_until,
       d.remove_after)
    IS DISTINCT FROM (EXCLUDED.modules, EXCLUDED.plan, EXCLUDED.status, EXCLUDED.cell, EXCLUDED.credentials_generation,
       EXCLUDED.retiring_generation, EXCLUDED.retiring_until, EXCLUDED.remove_after);

-- put_desired_notify --
-- Beside the rest of the row: no part of what a run applies.
UPDATE tenants.desired_states SET notify = %(notify)s WHERE cliente_id = %(id)s;

-- put_desired_auth --
-- Only where it differs: an older registry has no column for it.
UPDATE tenants.desired_states SET auth = %(auth)s WHERE cliente_id = %(id)s;

-- mark_applied --
-- Only if the row is still the one that was run.
UPDATE tenants.desired_states
SET applied_generation = %(generation)s, applied_at = clock_timestamp()
WHERE cliente_id = %(id)s AND updated_at = %(updated_at)s;

-- mark_unapplied --
UPDATE tenants.desired_states SET applied_at = NULL WHERE cliente_id = %(id)s;

-- fetch_applied_digests --
-- One tenant's, or all if id is null. Not by the column's name: before the platform's next `up`, a registry of an older
-- version does not have it.
SELECT cliente_id, to_jsonb(d) ->> 'applied_digest' AS digest
FROM tenants.desired_states AS d
WHERE (%(id)s::text IS NULL OR cliente_id = %(id)s) AND to_jsonb(d) ->> 'applied_digest' IS NOT NULL;

-- keeps_applied_digests --
SELECT to_jsonb(d) ? 'applied_digest' AS kept FROM tenants.desired_states AS d WHERE cliente_id = %(id)s;

-- put_applied_digest --
-- Null clears it. With `before`, only if it is still that one.
UPDATE tenants.desired_states SET applied_digest = %(digest)s
WHERE cliente_id = %(id)s AND (%(before)s::text IS NULL OR applied_digest = %(before)s);

-- put_final_export --
INSERT INTO tenants.final_exports (cliente_id, definitions, rows)
VALUES (%(id)s, %(definitions)s, %(rows)s);

-- fetch_final_exports --
SELECT cliente_id, definitions, rows, exported_at
FROM tenants.final_exports
WHERE cliente_id = %(id)s
ORDER BY id DESC;

-- hold_tenant --
-- Locked for the lifetime of the connection.
SELECT pg_try_advisory_lock(hashtextextended('kryonix.tenant ' || %(id)s, 0)) AS held;

-- clock --
-- The time for all processes.
SELECT clock_timestamp() AS now;
