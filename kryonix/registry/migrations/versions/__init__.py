"""The registry's migrations, by number."""

from __future__ import annotations

from typing import Final

NEWEST: Final = "0012"
"""This release's revision. Stated here, because to import alembic takes a sixth of an `up` that migrates nothing."""
