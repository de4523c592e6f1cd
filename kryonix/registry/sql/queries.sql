-- put_configuration --
-- What a tenant has. A tenant that comes back after its removal takes up its old row.
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

-- put_credentials --
-- A tenant's user and the hash that restores it.
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
-- A removed tenant's configuration is history, never deleted.
UPDATE tenants.rabbitmq_configurations
SET status = 'removido', updated_at = now()
WHERE cliente_id = %(cliente_id)s AND status <> 'removido';

-- delete_credentials --
DELETE FROM tenants.rabbitmq_credentials
WHERE cliente_id = %(cliente_id)s;

-- fetch_tenants --
-- One tenant, or all of them where cliente_id is null.
SELECT c.cliente_id, c.vhost, c.modulos_habilitados AS modulos, c.plano, c.status, k.username, k.password_hash
FROM tenants.rabbitmq_configurations AS c
LEFT JOIN tenants.rabbitmq_credentials AS k USING (cliente_id)
WHERE %(cliente_id)s::text IS NULL OR c.cliente_id = %(cliente_id)s
ORDER BY c.cliente_id;
