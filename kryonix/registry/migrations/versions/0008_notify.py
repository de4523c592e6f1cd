"""Where tenants' alerts go."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    for table in ("desired_states", "rabbitmq_configurations"):
        op.execute(f"ALTER TABLE tenants.{table} ADD COLUMN notify jsonb CHECK (jsonb_typeof(notify) = 'object')")
