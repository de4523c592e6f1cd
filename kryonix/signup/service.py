"""The HTTP service, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from kryonix.lifecycle.errors import LifecycleError
from kryonix.registry.errors import RegistryError
from kryonix.signup import health_api, operations_api, tenants_api
from kryonix.signup.database import Database
from kryonix.signup.errors import InvalidKey, SignupError
from kryonix.signup.intake import Intake
from kryonix.signup.metrics import Metrics
from kryonix.signup.middleware import BodyLimit, Recorded
from kryonix.signup.openapi import describe
from kryonix.signup.problems import MEDIA_TYPE, Problem, http_problem, problem_of, retry_after
from kryonix.signup.rate import RateLimit
from kryonix.signup.services import Services
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.errors import TopologyError

__all__ = ["build_service"]

log = logging.getLogger(__name__)

_ABOUT = """Makes, changes, suspends and removes tenants, each with a stack of its own.

What is asked is taken on and done by a worker: the answer is 202 with an operation, which says how it goes. There is
one operation at a time on a tenant. Every refusal is a problem document (RFC 9457) that says what to do."""


def build_service(dsn: str, catalog: Catalog, cells: Cells, *, per_second: float = 20, burst: int = 60) -> FastAPI:
    """The service, on the database that `dsn` names as the signup role. `per_second` and `burst` bound each caller."""
    database = Database(dsn)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        with database:
            yield

    app = FastAPI(
        title="Kryonix signup", version="1", description=_ABOUT, lifespan=running, docs_url=None, redoc_url=None
    )
    metrics = Metrics(database)
    app.state.services = Services(
        database=database,
        catalog=catalog,
        cells=cells,
        intake=Intake(database, catalog, cells),
        rate=RateLimit(per_second, burst),
        metrics=metrics,
    )
    for router in (tenants_api.router, operations_api.router, health_api.router):
        app.include_router(router)
    app.mount("/", StaticFiles(directory=str(files("kryonix.signup") / "page"), html=True), name="page")
    _handle_errors(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Recorded, database=database, metrics=metrics)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's own way to extend the document
    return app


def _handle_errors(app: FastAPI) -> None:
    def ours(request: Request, error: Exception) -> Response:
        if isinstance(error, RegistryError):
            log.error("request %s: %s", request.state.request_id, error)
        headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, InvalidKey) else {}
        if (seconds := retry_after(error)) is not None:
            headers["Retry-After"] = str(seconds)
        return _answer(request, problem_of(error), headers)

    def invalid(request: Request, error: Exception) -> Response:
        wrong = [_told(each) for each in error.errors()] if isinstance(error, RequestValidationError) else []
        return _answer(request, http_problem(422, "the request is not as it is described", errors=wrong))

    def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        detail = error.detail if isinstance(error, HTTPException) else ""
        return _answer(request, http_problem(status, f"{detail}. /openapi.json describes what there is"), headers)

    def defect(request: Request, error: Exception) -> Response:
        log.error("request %s ended with a defect", request.state.request_id, exc_info=error)
        return _answer(request, problem_of(error))

    for kind in (SignupError, LifecycleError, RegistryError, TopologyError):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, defect)


def _answer(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    told = problem.model_copy(update={"request_id": request.state.request_id})
    return JSONResponse(told.as_json(), problem.status, headers, MEDIA_TYPE)


def _told(error: dict[str, Any]) -> str:
    """One thing that is wrong with a request. What was received is left out: it may be a secret in the wrong place."""
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
