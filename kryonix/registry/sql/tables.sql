-- fetch_tables --
-- The tables that hold what the product knows. Alembic and Procrastinate keep their own; a job is made from its operation.
SELECT n.nspname || '.' || c.relname AS name,
    ARRAY(SELECT a.attname::text FROM pg_attribute AS a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
    ARRAY(SELECT a.attname::text FROM pg_attribute AS a JOIN pg_index AS i ON a.attnum = ANY(i.indkey)
          WHERE a.attrelid = c.oid AND i.indrelid = c.oid AND i.indisprimary ORDER BY a.attnum) AS key,
    (SELECT a.attname::text FROM pg_attribute AS a
     WHERE a.attrelid = c.oid AND a.attidentity <> '' AND NOT a.attisdropped) AS identity,
    ARRAY(SELECT DISTINCT rn.nspname || '.' || r.relname
          FROM pg_constraint AS k JOIN pg_class AS r ON r.oid = k.confrelid JOIN pg_namespace AS rn ON rn.oid = r.relnamespace
          WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid <> c.oid) AS "references"
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%(schemas)s) AND c.relkind = 'r'
    AND c.relname <> 'alembic_version' AND c.relname NOT LIKE 'procrastinate\_%%'
ORDER BY 1;

-- advance_identity --
-- After rows with numbers of their own. A role without the right leaves the sequence as it is.
SELECT CASE WHEN has_sequence_privilege(s.name, 'UPDATE') AND %(highest)s > coalesce(pg_sequence_last_value(s.name::regclass), 0)
            THEN setval(s.name::regclass, %(highest)s) END
FROM (SELECT pg_get_serial_sequence(%(table)s, %(column)s) AS name) AS s;

-- fetch_revision --
SELECT version_num FROM tenants.alembic_version;

-- fetch_models_to_keep --
-- Those in use, and of the others the newest, while all together have no more bytes than the limit.
WITH counted AS (
    SELECT m.cliente_id, m.version, o.version IS NOT NULL AS in_use, sum(octet_length(m.content)) OVER (
        ORDER BY o.version IS NULL, m.published_at DESC, m.cliente_id, m.version) AS bytes
    FROM tenants.routing_models AS m
    LEFT JOIN tenants.routing_modes AS o ON (o.cliente_id, o.version) = (m.cliente_id, m.version)
)
SELECT to_jsonb(m) AS row
FROM tenants.routing_models AS m JOIN counted AS c ON (c.cliente_id, c.version) = (m.cliente_id, m.version)
WHERE c.in_use OR c.bytes <= %(limit)s
ORDER BY m.cliente_id, m.version;
