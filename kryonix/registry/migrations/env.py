"""Alembic's environment: migrations run on the connection that `kryonix.registry.schema` hands over."""

from __future__ import annotations

import sqlalchemy
from alembic import context

from kryonix.registry.connection import SCHEMA

connection: sqlalchemy.Connection = context.config.attributes["connection"]
# Two concurrent runs would both see the old revision. The second waits here until the first has committed.
connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtext('kryonix.registry.migrations'))"))
context.configure(connection=connection, version_table_schema=SCHEMA)
with context.begin_transaction():
    context.run_migrations()
