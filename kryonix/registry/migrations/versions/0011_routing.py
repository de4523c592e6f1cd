"""Routing that learns: tenants' models and modes, who shares outcomes, and logins that read one tenant's model."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    _tables()
    # A role's name shows no tenant's id: every login of the server may list the roles.
    op.execute("""
        CREATE FUNCTION tenants.routing_role(cliente_id text) RETURNS text IMMUTABLE LANGUAGE sql AS
        $$ SELECT 'kryonix_router_' || md5(cliente_id) $$
    """)
    op.execute("CREATE UNIQUE INDEX routing_modes_of_role ON tenants.routing_modes (tenants.routing_role(cliente_id))")
    op.execute("""
        CREATE VIEW tenants.routing_current WITH (security_barrier) AS
        SELECT m.cliente_id, m.mode, m.canary, m.version, r.content, m.changed_at
        FROM tenants.routing_modes AS m LEFT JOIN tenants.routing_models AS r USING (cliente_id, version)
        WHERE tenants.routing_role(m.cliente_id) = current_user
    """)
    _access()


def _tables() -> None:
    op.execute("""
        CREATE TABLE tenants.routing_models (
            cliente_id text REFERENCES tenants.rabbitmq_configurations (cliente_id),
            version text CHECK (version ~ '^[0-9a-f]{12}$'),
            content bytea NOT NULL,
            made_at timestamptz NOT NULL,
            messages bigint NOT NULL CHECK (messages >= 0),
            made_of text[] NOT NULL CHECK (cardinality(made_of) > 0),
            published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            published_by text NOT NULL,
            PRIMARY KEY (cliente_id, version)
        )
    """)
    # made_at is the model's: the exporter may read this table, and no content.
    op.execute("""
        CREATE TABLE tenants.routing_modes (
            cliente_id text PRIMARY KEY REFERENCES tenants.rabbitmq_configurations (cliente_id),
            mode text NOT NULL CHECK (mode IN ('off', 'shadow', 'canary', 'on')),
            canary numeric NOT NULL DEFAULT 0 CHECK (canary BETWEEN 0 AND 100),
            version text,
            made_at timestamptz,
            changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            changed_by text NOT NULL,
            FOREIGN KEY (cliente_id, version) REFERENCES tenants.routing_models (cliente_id, version),
            CHECK ((version IS NULL) = (made_at IS NULL)),
            CHECK (mode = 'off' OR version IS NOT NULL)
        )
    """)
    # A tenant that shares no more keeps its row, without a time: the restore of an older backup adds missing rows.
    op.execute("""
        CREATE TABLE tenants.routing_sharing (
            cliente_id text PRIMARY KEY REFERENCES tenants.rabbitmq_configurations (cliente_id),
            shared_since timestamptz
        )
    """)


def _access() -> None:
    """Create the functions that make and drop a tenant's login: their owner may create roles, their callers may not.

    The password comes as a verifier, so no log has it.
    """
    op.execute("""
        CREATE FUNCTION tenants.grant_routing(tenant text, verifier text) RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            own text := tenants.routing_role(tenant);
            verb text := CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = own) THEN 'ALTER' ELSE 'CREATE' END;
        BEGIN
            IF verifier !~ '^SCRAM-SHA-256\\$[0-9]+:[A-Za-z0-9+/=]+\\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' THEN
                RAISE invalid_parameter_value USING MESSAGE = 'not a SCRAM-SHA-256 verifier';
            END IF;
            PERFORM FROM tenants.rabbitmq_configurations WHERE cliente_id = tenant AND status <> 'removido' FOR SHARE;
            IF NOT FOUND THEN
                RETURN NULL;
            END IF;
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kryonix_router') THEN
                CREATE ROLE kryonix_router NOLOGIN;
            END IF;
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO kryonix_router', current_database());
            GRANT USAGE ON SCHEMA tenants TO kryonix_router;
            GRANT SELECT ON tenants.routing_current TO kryonix_router;
            EXECUTE format('%s ROLE %I LOGIN CONNECTION LIMIT 10 PASSWORD %L', verb, own, verifier);
            EXECUTE format('GRANT kryonix_router TO %I', own);
            RETURN own;
        END $$
    """)
    op.execute("""
        CREATE FUNCTION tenants.revoke_routing(tenant text) RETURNS boolean
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            own text := tenants.routing_role(tenant);
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = own) THEN
                RETURN false;
            END IF;
            EXECUTE format('DROP ROLE %I', own);
            RETURN true;
        END $$
    """)
    op.execute("REVOKE EXECUTE ON FUNCTION tenants.grant_routing, tenants.revoke_routing FROM PUBLIC")
    # Whoever the roles are that default privileges gave rows to; their names are the stack's.
    op.execute("""
        DO $$
        DECLARE role text;
        BEGIN
            FOR role IN
                SELECT DISTINCT pg_get_userbyid(p.grantee) FROM pg_class AS c, aclexplode(c.relacl) AS p
                WHERE c.oid = 'tenants.routing_modes'::regclass AND p.grantee NOT IN (0, c.relowner)
            LOOP
                EXECUTE format('GRANT EXECUTE ON FUNCTION tenants.grant_routing, tenants.revoke_routing TO %I', role);
            END LOOP;
        END $$
    """)
