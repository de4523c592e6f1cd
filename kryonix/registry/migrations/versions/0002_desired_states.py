"""Tables of desired states and final exports."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE tenants.desired_states (
            cliente_id text PRIMARY KEY,
            modules jsonb NOT NULL CHECK (jsonb_typeof(modules) = 'array'),
            plan text NOT NULL,
            status text NOT NULL CHECK (status IN ('active', 'suspended', 'offboarding', 'removed')),
            cell text NOT NULL,
            credentials_generation int NOT NULL DEFAULT 1 CHECK (credentials_generation > 0),
            retiring_generation int CHECK (retiring_generation < credentials_generation),
            retiring_until timestamptz,
            remove_after timestamptz,
            applied_generation int NOT NULL DEFAULT 0,
            applied_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CHECK ((retiring_generation IS NULL) = (retiring_until IS NULL)),
            CHECK ((status = 'offboarding') <= (remove_after IS NOT NULL))
        )
    """)
    op.execute("""
        CREATE TABLE tenants.final_exports (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            cliente_id text NOT NULL REFERENCES tenants.desired_states (cliente_id),
            definitions jsonb NOT NULL,
            rows jsonb NOT NULL,
            exported_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX final_exports_of_tenant ON tenants.final_exports (cliente_id, id)")
