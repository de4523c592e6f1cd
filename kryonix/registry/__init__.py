"""The central PostgreSQL: tenants, and the password hashes that restore their users.

`kryonix.registry.schema` runs migrations. Import it only where they run: alembic takes 0.5 s to import.
"""
