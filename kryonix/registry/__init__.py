"""The central PostgreSQL: which tenants exist, and the hashes that restore their users."""

from kryonix.registry.errors import RegistryError, RegistryRefused, RegistryUnavailable
from kryonix.registry.rows import TenantRow, connect, fetch_tenants, put_tenant, retire_tenant
from kryonix.registry.schema import head, upgrade

__all__ = [
    "RegistryError",
    "RegistryRefused",
    "RegistryUnavailable",
    "TenantRow",
    "connect",
    "fetch_tenants",
    "head",
    "put_tenant",
    "retire_tenant",
    "upgrade",
]
