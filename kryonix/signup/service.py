"""Assembly of the HTTP service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from kryonix import __version__
from kryonix.engines.errors import LifecycleError
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.errors import RegistryError
from kryonix.signup.auth import Admission, RateLimit, unidentified
from kryonix.signup.dependencies import Services
from kryonix.signup.errors import InvalidKey, SignupError
from kryonix.signup.middleware import BodyLimit, RequestLog
from kryonix.signup.problems import (
    describe,
    describe_invalid,
    error_response,
    http_problem,
    problem_response,
)
from kryonix.signup.prometheus import PrometheusAddress
from kryonix.signup.routes import ROUTERS
from kryonix.signup.runbooks import ADDRESS, runbooks_page
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.errors import InvalidInput

_NO_PROMETHEUS: Final = PrometheusAddress()
_ABOUT = """Creates, changes, suspends and removes tenants, each with its own stack.

A worker runs the requests: the answer is 202 with an operation that reports the progress. A tenant has one operation at
a time. Every error is a problem document (RFC 9457) that says what to do."""


def build_service(
    dsn: str,
    catalog: Catalog,
    cells: Cells,
    *,
    per_second: float = 20,
    burst: int = 60,
    prometheus: PrometheusAddress = _NO_PROMETHEUS,
) -> FastAPI:
    """Build the service. `dsn` is the signup role's; `per_second` and `burst` limit each caller's requests."""
    services = Services(dsn, catalog, cells, prometheus)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        with services.database, closing(services.monitoring):
            yield

    app = FastAPI(
        title="Kryonix signup",
        version=__version__,
        description=_ABOUT,
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the answer would contain an address chosen by the caller
    )
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router)
    folder = Path(str(files("kryonix.signup") / "page"))
    for file in [found for found in folder.rglob("*") if found.is_file()]:
        # Each file by its own route: a folder mounted at `/` would answer for every unknown path.
        path = "/" if file.name == "index.html" else f"/{file.relative_to(folder).as_posix()}"
        app.add_route(path, partial(_send, file), include_in_schema=False)
    app.add_route(ADDRESS, _runbooks, include_in_schema=False)
    for kind in (SignupError, LifecycleError, BrokerUnavailable, RegistryError, InvalidInput):
        app.add_exception_handler(kind, error_response)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http)
    app.add_middleware(BodyLimit)
    app.add_middleware(Admission, database=services.database, rate=RateLimit(per_second, burst))
    app.add_middleware(RequestLog, database=services.database, metrics=services.metrics)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's own way to extend the document
    return app


async def _send(file: Path, request: Request) -> Response:
    return FileResponse(file)


async def _runbooks(request: Request) -> Response:
    return HTMLResponse(await run_in_threadpool(runbooks_page))


def _invalid(request: Request, error: RequestValidationError) -> Response:
    if (refused := _refuse_unidentified(request)) is not None:
        return refused
    if isinstance(error.body, bytes):
        problem = http_problem(415, "the body's media type is not JSON. Set Content-Type: application/json")
        return problem_response(request, problem)
    body = getattr(request.scope.get("route"), "body_field", None)
    wrong = [describe_invalid(each, None if body is None else body.field_info.annotation) for each in error.errors()]
    detail = wrong[0] if len(wrong) == 1 else f"the request has {len(wrong)} invalid fields; see `errors`"
    detail = f"{detail}. /openapi.json describes valid requests"
    return problem_response(request, http_problem(422, detail, errors=wrong))


def _http(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.BAD_REQUEST and (refused := _refuse_unidentified(request)) is not None:
        return refused
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The router itself reports only the methods of its first route for this path.
        routes = [route for router in (request.app, *ROUTERS) for route in router.routes if isinstance(route, Route)]
        found = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
        headers["Allow"] = ", ".join(sorted({method for route in found for method in route.methods or ()}))
    route = f"{request.method} {request.url.path[:100]!r}"
    said = {404: f"there is no {route}", 405: f"there is no {route}, but other methods"}
    detail = f"{said.get(error.status_code, error.detail)}. /openapi.json lists the paths and methods"
    return problem_response(request, http_problem(error.status_code, detail), headers)


def _refuse_unidentified(request: Request) -> Response | None:
    """Return 401 for a caller without a valid key, who must not learn what is wrong with the body. Otherwise None."""
    return error_response(request, InvalidKey()) if unidentified(request) else None
