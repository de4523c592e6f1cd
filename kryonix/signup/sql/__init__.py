"""The signup service's SQL, by name, from the .sql files of this folder."""

from __future__ import annotations

from typing import Final

from kryonix.registry.sql import load

__all__ = ["QUERIES"]

QUERIES: Final = load(__name__)
