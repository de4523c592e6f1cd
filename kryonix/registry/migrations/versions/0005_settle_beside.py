"""Let settling run beside a requested operation."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("DROP INDEX signup.operations_one_at_a_time")
    op.execute("""
        CREATE UNIQUE INDEX operations_one_at_a_time ON signup.operations (tenant, (kind = 'settle'))
        WHERE status IN ('queued', 'running')
    """)
