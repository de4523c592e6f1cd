"""Schema of the signup service: operations, keys, audit, outbox, and the job queue."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("CREATE SCHEMA IF NOT EXISTS signup")
    _jobs()
    op.execute("""
        CREATE TABLE signup.api_keys (
            id text PRIMARY KEY,
            name text NOT NULL,
            scope text NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
            hash bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            expires_at timestamptz,
            revoked_at timestamptz
        )
    """)
    op.execute("""
        CREATE TABLE signup.operations (
            id uuid PRIMARY KEY,
            tenant text NOT NULL,
            kind text NOT NULL
                CHECK (kind IN ('create', 'change', 'suspend', 'resume', 'rotate', 'offboard', 'remove', 'settle')),
            request jsonb NOT NULL,
            status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'succeeded', 'failed')),
            attempts int NOT NULL DEFAULT 0,
            objects_done int NOT NULL DEFAULT 0,
            objects_total int NOT NULL DEFAULT 0,
            doing text NOT NULL DEFAULT '',
            problem jsonb,
            result jsonb,
            key_id text REFERENCES signup.api_keys (id),
            idempotency_key text,
            fingerprint bytea,
            sealing_key bytea,
            sealed bytea,
            delivered_at timestamptz,
            revision int NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            started_at timestamptz,
            ended_at timestamptz
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX operations_one_at_a_time ON signup.operations (tenant)
        WHERE status IN ('queued', 'running')
    """)
    op.execute("""
        CREATE UNIQUE INDEX operations_once ON signup.operations (key_id, idempotency_key)
        WHERE idempotency_key IS NOT NULL
    """)
    op.execute("CREATE INDEX operations_of_tenant ON signup.operations (tenant, created_at)")
    op.execute("CREATE INDEX operations_sealed ON signup.operations (ended_at) WHERE sealed IS NOT NULL")
    op.execute("""
        CREATE TABLE signup.outbox (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            event text NOT NULL,
            tenant text NOT NULL,
            payload jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            published_at timestamptz
        )
    """)
    op.execute("CREATE INDEX outbox_to_publish ON signup.outbox (created_at) WHERE published_at IS NULL")
    op.execute("""
        CREATE TABLE signup.audit (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT clock_timestamp(),
            request_id uuid NOT NULL,
            key_id text,
            peer text NOT NULL,
            method text NOT NULL,
            path text NOT NULL,
            status int NOT NULL,
            tenant text,
            operation uuid
        )
    """)
    op.execute("CREATE INDEX audit_at ON signup.audit (at)")


def _jobs() -> None:
    """Procrastinate's own tables, of the release that is pinned; a later one's migrations will be ours to run."""
    schema = (files("procrastinate.sql") / "schema.sql").read_text(encoding="utf-8")
    driver = op.get_bind().connection.driver_connection
    if driver is None:
        raise RuntimeError("alembic runs its migrations on a connection to the database")
    # Its names are not qualified, and many statements at once are none that has parameters.
    driver.execute("SET LOCAL search_path TO signup")
    driver.execute(schema)
    driver.execute("RESET search_path")
