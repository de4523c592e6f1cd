-- fetch_listed_tenants --
-- Every tenant of the platform: desired states, and live rows without one, which a config file declares. A page starts
-- after a tenant, at the place that its sort key has now; `total` counts all pages.
WITH own AS (
    SELECT cliente_id, modules, plan, status, cell, credentials_generation, retiring_generation, retiring_until,
        remove_after, applied_generation, applied_at, updated_at, to_jsonb(d) -> 'notify' AS notify,
        coalesce(to_jsonb(d) ->> 'auth', 'password') AS auth,
        CASE WHEN status = 'removed' AND remove_after IS NOT NULL THEN 'removing' ELSE status END AS stage
    FROM tenants.desired_states AS d
), live AS (
    SELECT cliente_id, modulos_habilitados AS modules, plano AS plan, updated_at, to_jsonb(c) -> 'notify' AS notify,
        CASE status WHEN 'suspenso' THEN 'suspended' ELSE 'active' END AS status
    FROM tenants.rabbitmq_configurations AS c WHERE status <> 'removido'
), every AS (
    SELECT own.*, false AS declared FROM own
    WHERE stage <> 'removed' OR NOT EXISTS (SELECT 1 FROM live WHERE live.cliente_id = own.cliente_id)
    UNION ALL
    SELECT cliente_id, modules, plan, status, 'unknown', 1, NULL, NULL, NULL, 1, updated_at, updated_at, notify,
        'password', status, true FROM live
    WHERE NOT EXISTS (SELECT 1 FROM own WHERE own.cliente_id = live.cliente_id AND own.stage <> 'removed')
), keyed AS (
    SELECT *, CASE %(sort)s
        WHEN 'plan' THEN plan
        WHEN 'status' THEN stage
        WHEN 'changed' THEN to_char(updated_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')
        ELSE '' END COLLATE "C" AS key
    FROM every
), wanted AS (
    SELECT * FROM keyed
    WHERE (%(id)s::text IS NULL OR cliente_id = %(id)s)
        AND (%(ids)s::text[] IS NULL OR cliente_id = ANY(%(ids)s))
        AND (%(statuses)s::text[] IS NULL OR stage = ANY(%(statuses)s))
        AND strpos(cliente_id, %(search)s) > 0
), place AS (
    SELECT coalesce((SELECT key FROM keyed WHERE cliente_id = %(after)s), '') AS key
)
SELECT wanted.cliente_id, modules, plan, status, cell, credentials_generation, retiring_generation, retiring_until,
    remove_after, applied_generation, applied_at, updated_at, notify, auth, declared,
    (SELECT count(*) FROM wanted) AS total
FROM wanted, place
WHERE %(after)s = ''
    OR CASE WHEN %(descending)s THEN (wanted.key, wanted.cliente_id) < (place.key, %(after)s)
        ELSE (wanted.key, wanted.cliente_id) > (place.key, %(after)s) END
ORDER BY CASE WHEN %(descending)s THEN wanted.key END DESC, CASE WHEN %(descending)s THEN wanted.cliente_id END DESC,
    wanted.key, wanted.cliente_id
LIMIT %(limit)s;

-- fetch_key_names --
SELECT id, name FROM signup.api_keys WHERE id = ANY(%(ids)s);
