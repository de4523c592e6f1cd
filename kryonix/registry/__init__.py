"""The central PostgreSQL: tenants, and the password hashes that restore their users.

`kryonix.registry.schema` runs migrations. Import it only where they run: alembic takes 0.5 s to import.
"""

from kryonix.registry.connection import connect
from kryonix.registry.errors import RegistryAddressInvalid, RegistryError, RegistryRefused, RegistryUnavailable
from kryonix.registry.rows import TenantRow, fetch_tenants, put_tenant, retire_tenant

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
