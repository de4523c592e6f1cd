"""How tenants' applications log in."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    choices = "CHECK (auth IN ('password', 'certificate'))"
    op.execute(f"ALTER TABLE tenants.desired_states ADD COLUMN auth text NOT NULL DEFAULT 'password' {choices}")
