"""Tables of tenants: configuration, and the hash that restores a user."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE tenants.rabbitmq_configurations (
            cliente_id text PRIMARY KEY,
            vhost text NOT NULL UNIQUE,
            modulos_habilitados jsonb NOT NULL CHECK (jsonb_typeof(modulos_habilitados) = 'array'),
            plano text NOT NULL,
            status text NOT NULL CHECK (status IN ('ativo', 'suspenso', 'removido')),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE tenants.rabbitmq_credentials (
            cliente_id text PRIMARY KEY REFERENCES tenants.rabbitmq_configurations (cliente_id),
            username text NOT NULL UNIQUE,
            password_hash text NOT NULL,
            vhost text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
