"""Whether the service can work: its database answers, and a worker has been heard of."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from kryonix.registry.errors import RegistryError
from kryonix.signup.database import Database
from kryonix.signup.sql import QUERIES

__all__ = ["AWAY", "FRESH_S", "Readiness", "look"]

FRESH_S: Final = 1
"""How old the answer may be: who asks more often costs the database no more."""

_ALIVE_S: Final = 30


class Readiness(BaseModel):
    """What the service needs to work, and whether it is there."""

    ready: bool
    database: str
    workers: int | None


AWAY: Final = Readiness(ready=False, database="does not answer", workers=None)


def look(database: Database) -> Readiness:
    """Ask the database."""
    try:
        with database.transaction() as connection:
            row = connection.execute(QUERIES["workers_alive"], {"seconds": _ALIVE_S}).fetchone()
    except RegistryError:
        return AWAY
    workers = 0 if row is None else int(row["count"])
    return Readiness(ready=workers > 0, database="answers", workers=workers)
