"""Record backups, and which of them are expected."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE tenants.backups (
            stack text,
            kind text CHECK (kind IN ('tenant', 'platform')),
            subject text,
            at timestamptz,
            address text NOT NULL,
            started_at timestamptz NOT NULL,
            ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            bytes bigint CHECK (bytes > 0),
            outcome text NOT NULL CHECK (outcome IN ('created', 'failed')),
            error text NOT NULL DEFAULT '',
            verified_at timestamptz,
            verify_outcome text CHECK (verify_outcome IN ('verified', 'failed')),
            verify_error text NOT NULL DEFAULT '',
            PRIMARY KEY (stack, kind, subject, at),
            CHECK ((verified_at IS NULL) = (verify_outcome IS NULL))
        )
    """)
    op.execute("""
        CREATE TABLE tenants.backup_schedules (
            stack text,
            kind text CHECK (kind IN ('tenant', 'platform')),
            subject text,
            since timestamptz NOT NULL DEFAULT clock_timestamp(),
            seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (stack, kind, subject)
        )
    """)
