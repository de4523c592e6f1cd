"""Routes of liveness, readiness and metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from kryonix.signup.monitoring import Readiness
from kryonix.signup.services import Services, services

router = APIRouter(tags=["health"])

Using = Annotated[Services, Depends(services)]


class Health(BaseModel):
    """The liveness answer."""

    status: str


@router.get("/healthz")
async def healthz() -> Health:
    """Return ok while the process runs. Uses neither the database nor a thread."""
    return Health(status="ok")


@router.get(
    "/readyz",
    responses={503: {"model": Readiness, "description": "The database does not answer, or no worker is running."}},
)
def readyz(using: Using, response: Response) -> Readiness:
    """Return 200 while the database answers and a worker is running."""
    found = using.readiness.get()
    if not found.ready:
        response.status_code = 503
    return found


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(using: Using) -> Response:
    """Return metrics in Prometheus' text format."""
    return Response(using.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
