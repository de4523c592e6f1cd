"""Count operations that are deleted, so that a counter of all operations never falls."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE signup.forgotten_operations (
            kind text,
            status text,
            count bigint NOT NULL,
            PRIMARY KEY (kind, status)
        )
    """)
    # A trigger: a worker of an older release deletes rows too. Sorted, so that two workers never wait for each other.
    op.execute("""
        CREATE FUNCTION signup.count_forgotten() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO signup.forgotten_operations AS f (kind, status, count)
            SELECT CASE WHEN request ? 'converge' THEN 'converge' ELSE kind END AS kind, status, count(*)
            FROM gone GROUP BY 1, 2 ORDER BY 1, 2
            ON CONFLICT (kind, status) DO UPDATE SET count = f.count + EXCLUDED.count;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER count_forgotten AFTER DELETE ON signup.operations
        REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION signup.count_forgotten()
    """)
