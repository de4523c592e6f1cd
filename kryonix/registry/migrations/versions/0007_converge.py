"""Allow operations that converge a tenant."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("ALTER TABLE signup.operations DROP CONSTRAINT operations_kind_check")
    op.execute("""
        ALTER TABLE signup.operations ADD CONSTRAINT operations_kind_check CHECK (kind IN
            ('create', 'change', 'suspend', 'resume', 'rotate', 'converge', 'offboard', 'remove', 'settle'))
    """)
