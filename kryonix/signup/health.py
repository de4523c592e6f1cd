"""Liveness, readiness and metrics endpoints."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from kryonix.registry.errors import RegistryError
from kryonix.signup.database import Database
from kryonix.signup.services import Services, services
from kryonix.signup.sql import QUERIES

__all__ = ["AWAY", "FRESH_S", "Readiness", "look", "router"]


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


router = APIRouter(tags=["health"])

Using = Annotated[Services, Depends(services)]


class Health(BaseModel):
    """The service answers."""

    status: str


@router.get("/healthz")
async def healthz() -> Health:
    """The process lives. Nothing else is asked, and no thread is waited for."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Readiness, "description": "It can't take requests, or do them."}})
def readyz(using: Using, response: Response) -> Readiness:
    """The database answers, and a worker is there to do what is asked."""
    found = using.readiness.get()
    if not found.ready:
        response.status_code = 503
    return found


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(using: Using) -> Response:
    """Figures in Prometheus' format."""
    return Response(using.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
