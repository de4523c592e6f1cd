-- try_lock_routing --
-- Held until the transaction ends.
SELECT pg_try_advisory_xact_lock(hashtextextended('kryonix.routing ' || %(id)s, 0)) AS held;

-- has_routing --
-- A registry of an older version has none of these tables before the platform's next `up`.
SELECT to_regclass('tenants.routing_modes') IS NOT NULL AS made;

-- fetch_unshared --
-- Of these tenants, those that do not share their outcomes. Locked, so that nobody ends a sharing meanwhile.
WITH sharing AS (
    SELECT s.cliente_id
    FROM tenants.routing_sharing AS s JOIN tenants.rabbitmq_configurations AS c USING (cliente_id)
    WHERE s.cliente_id = ANY(%(tenants)s) AND s.shared_since IS NOT NULL AND c.status <> 'removido'
    FOR SHARE OF s
)
SELECT t.cliente_id FROM unnest(%(tenants)s::text[]) AS t (cliente_id)
WHERE t.cliente_id NOT IN (SELECT cliente_id FROM sharing)
ORDER BY 1;

-- fetch_routing_tenant --
-- Locked, so that nobody removes the tenant meanwhile.
SELECT cliente_id FROM tenants.rabbitmq_configurations WHERE cliente_id = %(id)s AND status <> 'removido' FOR SHARE;

-- put_model --
-- The same version again becomes the newest. What it was made of is never forgotten.
INSERT INTO tenants.routing_models AS m (cliente_id, version, content, made_at, messages, made_of, published_by)
VALUES (%(id)s, %(version)s, %(content)s, %(made_at)s, %(messages)s, %(made_of)s, %(by)s)
ON CONFLICT (cliente_id, version) DO UPDATE SET
    content = EXCLUDED.content,
    made_of = ARRAY(SELECT DISTINCT t FROM unnest(m.made_of || EXCLUDED.made_of) AS t ORDER BY t),
    published_at = EXCLUDED.published_at,
    published_by = EXCLUDED.published_by;

-- forget_old_models --
-- All but the newest, and the one in use.
DELETE FROM tenants.routing_models AS m
WHERE m.cliente_id = %(id)s
    AND m.version NOT IN (
        SELECT version FROM tenants.routing_models WHERE cliente_id = %(id)s
        ORDER BY published_at DESC, version LIMIT %(kept)s)
    AND NOT EXISTS (
        SELECT FROM tenants.routing_modes AS o WHERE (o.cliente_id, o.version) = (m.cliente_id, m.version));

-- fetch_models --
-- Newest first, without their content.
SELECT m.version, m.made_at, m.messages, m.made_of, m.published_at, m.published_by, octet_length(m.content) AS bytes,
    o.version IS NOT NULL AS in_use
FROM tenants.routing_models AS m
LEFT JOIN tenants.routing_modes AS o ON (o.cliente_id, o.version) = (m.cliente_id, m.version)
WHERE m.cliente_id = %(id)s
ORDER BY m.published_at DESC, m.version;

-- fetch_model --
SELECT content, made_at FROM tenants.routing_models WHERE (cliente_id, version) = (%(id)s, %(version)s);

-- put_mode --
INSERT INTO tenants.routing_modes (cliente_id, mode, canary, version, made_at, changed_by)
VALUES (%(id)s, %(mode)s, %(canary)s, %(version)s, %(made_at)s, %(by)s)
ON CONFLICT (cliente_id) DO UPDATE SET
    mode = EXCLUDED.mode, canary = EXCLUDED.canary, version = EXCLUDED.version, made_at = EXCLUDED.made_at,
    changed_at = EXCLUDED.changed_at, changed_by = EXCLUDED.changed_by;

-- fetch_routing --
SELECT o.mode, o.canary, o.version, m.content, o.made_at, o.changed_at, o.changed_by
FROM tenants.routing_modes AS o LEFT JOIN tenants.routing_models AS m USING (cliente_id, version)
WHERE o.cliente_id = %(id)s;

-- fetch_routing_modes --
-- Of every tenant that is not removed.
SELECT o.cliente_id, o.mode, o.version, o.made_at
FROM tenants.routing_modes AS o JOIN tenants.rabbitmq_configurations AS c USING (cliente_id)
WHERE c.status <> 'removido'
ORDER BY o.cliente_id;

-- share_outcomes --
INSERT INTO tenants.routing_sharing AS s (cliente_id, shared_since)
VALUES (%(id)s, clock_timestamp())
ON CONFLICT (cliente_id) DO UPDATE SET shared_since = coalesce(s.shared_since, EXCLUDED.shared_since);

-- unshare_outcomes --
UPDATE tenants.routing_sharing SET shared_since = NULL WHERE cliente_id = %(id)s;

-- fetch_sharing --
-- Every tenant that shares its outcomes.
SELECT s.cliente_id, s.shared_since
FROM tenants.routing_sharing AS s JOIN tenants.rabbitmq_configurations AS c USING (cliente_id)
WHERE s.shared_since IS NOT NULL AND c.status <> 'removido'
ORDER BY s.cliente_id;

-- delete_modes --
DELETE FROM tenants.routing_modes WHERE cliente_id = %(id)s;

-- delete_models --
DELETE FROM tenants.routing_models WHERE cliente_id = %(id)s;

-- grant_routing --
SELECT tenants.grant_routing(%(id)s, %(verifier)s) AS role;

-- revoke_routing --
SELECT tenants.revoke_routing(%(id)s) AS revoked;

-- routing_role --
SELECT tenants.routing_role(%(id)s) AS role;

-- has_access --
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = tenants.routing_role(%(id)s)) AS given;
