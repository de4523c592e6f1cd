"""Protect the audit from its writers, and limit the signup role's rights."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # The one way in which rows of the audit go: those that are older than 30 days, whoever asks for more. An older
    # worker, which deletes them itself, is refused, logs it, and goes on with the rest.
    op.execute("""
        CREATE FUNCTION signup.forget_audit(seconds double precision, portion integer) RETURNS bigint
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
            WITH gone AS (
                DELETE FROM signup.audit WHERE id IN (
                    SELECT id FROM signup.audit
                    WHERE at < clock_timestamp() - greatest(make_interval(secs => seconds), interval '30 days')
                    ORDER BY at LIMIT portion
                )
                RETURNING 1
            )
            SELECT count(*) FROM gone
        $$
    """)
    op.execute("REVOKE EXECUTE ON FUNCTION signup.forget_audit FROM PUBLIC")
    # Whoever the roles are that default privileges gave rows to; their names are the stack's.
    op.execute("""
        DO $$
        DECLARE role text;
        BEGIN
            FOR role IN
                SELECT DISTINCT pg_get_userbyid(p.grantee) FROM pg_class AS c, aclexplode(c.relacl) AS p
                WHERE c.oid = 'signup.audit'::regclass AND p.grantee NOT IN (0, c.relowner)
            LOOP
                EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON signup.audit FROM %I', role);
                EXECUTE format('GRANT EXECUTE ON FUNCTION signup.forget_audit TO %I', role);
                EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON signup.api_keys FROM %I', role);
                EXECUTE format('GRANT UPDATE (revoked_at, expires_at) ON signup.api_keys TO %I', role);
            END LOOP;
        END $$
    """)
