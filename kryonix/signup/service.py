"""The HTTP service, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from kryonix.engines.errors import LifecycleError
from kryonix.registry.errors import RegistryError
from kryonix.signup import health, operations_api, tenants_api
from kryonix.signup.admission import Admission, Authenticator, RateLimit
from kryonix.signup.auth import unidentified
from kryonix.signup.database import Database
from kryonix.signup.errors import InvalidKey, SignupError
from kryonix.signup.intake import Intake
from kryonix.signup.middleware import BodyLimit, Recorded
from kryonix.signup.monitoring import AWAY, FRESH_S, Cached, Metrics, look
from kryonix.signup.problems import describe, error_response, http_problem, problem_of, problem_response
from kryonix.signup.services import Services
from kryonix.signup.streams import Streams
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.errors import TopologyError

__all__ = ["build_service"]

log = logging.getLogger(__name__)

_ROUTERS: Final = (tenants_api.router, operations_api.router, health.router)

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
        title="Kryonix signup",
        version="1",
        description=_ABOUT,
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # an address of the caller's own making would be in the answer
    )
    metrics, rate = Metrics(database), RateLimit(per_second, burst)
    app.state.services = Services(
        database=database,
        catalog=catalog,
        cells=cells,
        intake=Intake(database, catalog, cells),
        metrics=metrics,
        readiness=Cached(FRESH_S, lambda: look(database), AWAY),
        streams=Streams(database),
    )
    for router in _ROUTERS:
        app.include_router(router)
    _serve_page(app)
    _handle_errors(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Admission, authenticator=Authenticator(database, rate), rate=rate)
    app.add_middleware(Recorded, database=database, metrics=metrics)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's own way to extend the document
    return app


def _serve_page(app: FastAPI) -> None:
    """The page's files, each by its own route: a folder at `/` would answer for every path that there is not."""
    for file in Path(str(files("kryonix.signup") / "page")).iterdir():

        async def send(request: Request, file: Path = file) -> Response:
            return FileResponse(file)

        app.add_route("/" if file.name == "index.html" else f"/{file.name}", send, include_in_schema=False)


def _handle_errors(app: FastAPI) -> None:
    for kind in (SignupError, LifecycleError, RegistryError, TopologyError):
        app.add_exception_handler(kind, error_response)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)


def _invalid(request: Request, error: Exception) -> Response:
    if (refused := _not_let_in(request)) is not None:
        return refused
    if not isinstance(error, RequestValidationError):
        return _defect(request, error)
    if isinstance(error.body, bytes):
        problem = http_problem(415, "the body is not said to be JSON. Send Content-Type: application/json")
        return problem_response(request, problem)
    wrong = [_told(each) for each in error.errors()]
    detail = f"{len(wrong)} thing(s) of the request can't be, see `errors`. /openapi.json describes what can"
    return problem_response(request, http_problem(422, detail, errors=wrong))


def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _defect(request, error)
    if error.status_code == HTTPStatus.BAD_REQUEST and (refused := _not_let_in(request)) is not None:
        return refused
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    detail = f"{error.detail}. /openapi.json describes what there is"
    return problem_response(request, http_problem(error.status_code, detail), headers)


def _defect(request: Request, error: Exception) -> Response:
    log.error("request %s ended with a defect", request.state.request_id, exc_info=error)
    return problem_response(request, problem_of(error))


def _not_let_in(request: Request) -> Response | None:
    """The answer to who has no valid key: nobody else is told what is wrong with a body. None for who has one."""
    return error_response(request, InvalidKey()) if unidentified(request) else None


def _methods(request: Request) -> list[str]:
    """What can be done with a path: the router tells of the first of its routes only."""
    app: FastAPI = request.app
    routes = [route for router in (app, *_ROUTERS) for route in router.routes if isinstance(route, Route)]
    found = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in found for method in route.methods or ()})


def _told(error: dict[str, Any]) -> str:
    """One thing that is wrong with a request. What was received is left out: it may be a secret in the wrong place."""
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
