"""Tables of rollouts and their progress."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE tenants.rollouts (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            status text NOT NULL DEFAULT 'running'
                CHECK (status IN ('running', 'done', 'incomplete', 'stopped', 'superseded')),
            concurrency int NOT NULL CHECK (concurrency > 0),
            failure_budget text NOT NULL,
            holder text NOT NULL,
            started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            ended_at timestamptz
        )
    """)
    op.execute("""
        CREATE TABLE tenants.rollout_tenants (
            rollout bigint NOT NULL REFERENCES tenants.rollouts (id),
            cliente_id text NOT NULL,
            wave int NOT NULL CHECK (wave >= 0),
            place int NOT NULL,
            status text NOT NULL DEFAULT 'pending'
                CHECK (status IN ('pending', 'running', 'done', 'failed', 'skipped')),
            changes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(changes) = 'object'),
            seconds double precision,
            error text NOT NULL DEFAULT '',
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (rollout, cliente_id),
            UNIQUE (rollout, wave, place)
        )
    """)
