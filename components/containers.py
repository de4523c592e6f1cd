"""Security options of all containers."""

from __future__ import annotations

from typing import Final

ENTRYPOINT_CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID")
"""Capabilities of an entrypoint that starts as root: take ownership of its volume, and become the service's user."""

NO_NEW_PRIVILEGES: Final = "no-new-privileges"
