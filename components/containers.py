"""What this program's containers have in common."""

from __future__ import annotations

from typing import Final

__all__ = ["ENTRYPOINT_CAPABILITIES", "NO_NEW_PRIVILEGES"]

ENTRYPOINT_CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID")
"""What an entrypoint needs that begins as root: to own the files of its volume, and to become the service's user."""

NO_NEW_PRIVILEGES: Final = "no-new-privileges"
