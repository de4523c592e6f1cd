"""The central PostgreSQL: which tenants exist, and the hashes that restore their users.

Migrations are in `kryonix.registry.schema`, which is imported by those who run them: alembic costs every process 0.5 s.
"""

from kryonix.registry.errors import RegistryAddressInvalid, RegistryError, RegistryRefused, RegistryUnavailable
from kryonix.registry.rows import TenantRow, connect, fetch_tenants, put_tenant, retire_tenant

__all__ = [
    "RegistryAddressInvalid",
    "RegistryError",
    "RegistryRefused",
    "RegistryUnavailable",
    "TenantRow",
    "connect",
    "fetch_tenants",
    "put_tenant",
    "retire_tenant",
]
