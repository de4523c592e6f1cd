"""What each tenant's stack was last applied from, so that a rollout leaves out those with nothing to change."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("ALTER TABLE tenants.desired_states ADD COLUMN applied_digest text")
    statuses = "status IN ('pending', 'running', 'done', 'failed', 'skipped', 'unchanged')"
    op.execute(f"""
        ALTER TABLE tenants.rollout_tenants
            DROP CONSTRAINT rollout_tenants_status_check,
            ADD CONSTRAINT rollout_tenants_status_check CHECK ({statuses}),
            ALTER COLUMN wave DROP NOT NULL,
            ADD CONSTRAINT rollout_tenants_wave_known CHECK ((wave IS NULL) = (status = 'unchanged'))
    """)
