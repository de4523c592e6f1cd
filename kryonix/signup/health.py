"""Whether the service lives, whether it can work, and its figures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from kryonix.signup.monitoring import Readiness
from kryonix.signup.services import Services, services

__all__ = ["router"]

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
