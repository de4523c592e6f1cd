"""Host and port of a service, as written in URLs and messages."""

from __future__ import annotations


def host_port(host: str, port: int | str) -> str:
    """Return `HOST:PORT`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
