"""Addresses of a service: host and port as written in URLs and messages, and who can reach it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

PLATFORM_ADDRESSES: Final = ("management_url", "management_urls", "amqp_addresses", "ca_certificate")
"""A platform's outputs that say where its tenants connect to, and whom they trust there."""

PLATFORM_ACCESS: Final = ("management_url", "admin_username", "admin_password", "amqp_host", "amqp_port")
"""A platform's outputs that every tenant's stack needs, beside the address of the registry."""

FURTHER_ACCESS: Final = ("management_urls", "amqp_addresses", "ca_certificate", "client_authority")
"""Those that it reads too; a platform of an older version, or without TLS, doesn't have them."""


def host_port(host: str, port: int | str) -> str:
    """Return `HOST:PORT`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str, port: int | None = None) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, or of `HOST` with a default port. Raises ValueError for anything else."""
    parts = urlsplit(f"//{address}")
    found = parts.port or port
    if not parts.hostname or not found or parts.netloc != address or "@" in address or address.split() != [address]:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return parts.hostname, found


def speaks_amqps(outputs: Mapping[str, Any]) -> bool:
    """Return True if a platform's AMQP addresses, as its outputs have them, are those of TLS listeners.

    Outputs without `amqp_addresses` are older than TLS: an https:// among them is a proxy of the operator's own.
    """
    return bool(outputs.get("amqp_addresses")) and str(outputs.get("management_url")).startswith("https:")


def is_loopback(address: str) -> bool:
    """Return True if only this machine can reach an IP address, which may have a zone."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def reached_as(address: str, advertised_host: str) -> str:
    """Return the host in the URL of a service: its own address on loopback, beyond it the advertised one."""
    return address if is_loopback(address) else advertised_host
