"""Problem details (RFC 9457): of errors, in answers, and in the OpenAPI document."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from kryonix.engines import errors as lifecycle
from kryonix.rabbitmq.broker import BrokerUnavailable
from kryonix.registry.errors import RegistryError, RegistryUnavailable
from kryonix.signup.errors import InvalidKey, OperationUnderWay, SignupError, TooManyRequests
from kryonix.topology.errors import InvalidInput

__all__ = [
    "MEDIA_TYPE",
    "Problem",
    "describe",
    "error_response",
    "for_callers",
    "http_problem",
    "problem_of",
    "problem_response",
    "problems",
    "retry_after",
    "unknown_to_worker",
]


MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:kryonix:problem:"


class Problem(BaseModel):
    """Why something was refused or has failed, as RFC 9457 has it; `detail` says what to do about it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="What kind of problem, as a URN that stays the same: urn:kryonix:problem:KIND")
    title: str = Field(description="The kind of problem in words")
    status: int = Field(description="The HTTP status, also in the row of an operation that has failed")
    detail: str = Field(description="This one: the thing, the value that was received, the rule, and what to do")
    errors: list[str] | None = Field(None, description="Every single thing that is wrong, where there may be several")
    operation: str | None = Field(None, description="The operation that is under way")
    remove: list[str] | None = Field(None, description="Modules whose removal makes the rest fit")
    plan: str | None = Field(None, description="The smallest plan that fits")
    queues: dict[str, int] | None = Field(None, description="Queues that would be deleted, and the messages in each")
    request_id: str | None = Field(None, description="What the service's log calls the request")

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


# By the first class that fits, so a class comes before its base.
_KINDS: Final[tuple[tuple[type[Exception], str, HTTPStatus, str], ...]] = (
    (lifecycle.InvalidTenant, "invalid-tenant", HTTPStatus.UNPROCESSABLE_ENTITY, "The tenant can't be like this"),
    (lifecycle.DoesNotFit, "does-not-fit", HTTPStatus.UNPROCESSABLE_ENTITY, "The modules do not fit the plan"),
    (lifecycle.TenantExists, "tenant-exists", HTTPStatus.CONFLICT, "The tenant is there already"),
    (lifecycle.UnknownTenant, "unknown-tenant", HTTPStatus.NOT_FOUND, "There is no such tenant"),
    (lifecycle.WouldLoseMessages, "would-lose-messages", HTTPStatus.CONFLICT, "Messages would be lost"),
    (lifecycle.WrongState, "wrong-state", HTTPStatus.CONFLICT, "The tenant's state does not allow it"),
    (lifecycle.NoRoom, "no-room", HTTPStatus.CONFLICT, "No cell has room"),
    (lifecycle.TenantBusy, "tenant-busy", HTTPStatus.CONFLICT, "The tenant is being worked on"),
    (InvalidInput, "invalid-input", HTTPStatus.UNPROCESSABLE_ENTITY, "The input can't be accepted"),
    (RegistryUnavailable, "registry-unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer"),
    (BrokerUnavailable, "broker-unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "The broker does not answer"),
    (lifecycle.LifecycleError, "not-done", HTTPStatus.BAD_GATEWAY, "It could not be done"),
)
# Written down, as the names that Python has for statuses are not the same in all of its versions.
_OF_HTTP: Final = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "content-too-large",
    415: "unsupported-media-type",
    422: "unprocessable-entity",
}


def _all_of(kind: type[Exception]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from _all_of(each)


_HIDDEN: Final = (RegistryUnavailable,)
"""Problems whose text, which names addresses, is of no use to anybody but the reader of the log."""

_FOR_CALLERS: Final = frozenset(
    {
        *(name for error, name, _, _ in _KINDS if issubclass(error, (lifecycle.Refused, InvalidInput))),
        *(error.kind for error in _all_of(SignupError) if hasattr(error, "kind")),
        *_OF_HTTP.values(),
        "registry-unavailable",
        "internal",
        "waits-for-a-newer-worker",
    }
)
"""Problems that are written for who has asked. The text of all others, also of those that a later release has, may come
from a provider, a broker or a database, and name where it is."""

_WITHHELD: Final = ("detail", "errors")
_ADDRESS: Final = re.compile(r"\b[a-z][a-z0-9+]*://[^\s'\")]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", re.IGNORECASE)


def for_callers(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem as it is shown to who is no administrator: without addresses of the platform's."""
    if str(problem.get("type", "")).removeprefix(_TYPE) in _FOR_CALLERS:
        # An engine's own text may stand around what is for the caller.
        return {**problem, "detail": _ADDRESS.sub("(an address)", str(problem.get("detail", "")))}
    shown = {key: value for key, value in problem.items() if key not in _WITHHELD}
    title = problem.get("title", "It could not be done")
    return {**shown, "detail": f"{title}. Operators find the reason in the log, or with a key of scope admin"}


def problem_of(error: Exception) -> Problem:
    """The problem that an error is. One that is not ours says nothing of itself: it goes to the log."""
    if isinstance(error, SignupError):
        title = HTTPStatus(error.status).phrase
        operation = error.operation if isinstance(error, OperationUnderWay) else None
        return _problem(error.kind, error.status, title, str(error), operation=operation)
    for kind, name, status, title in _KINDS:
        if isinstance(error, kind):
            detail = f"{title}. Try again in a moment" if isinstance(error, _HIDDEN) else str(error)
            return _problem(name, status, title, detail, **_more(error))
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "an error of the service's own, which is in its log with this request's or operation's id. Try again"
    return _problem("internal", status, status.phrase, detail)


def unknown_to_worker(unknown: str) -> Problem:
    """What is said of an operation that asks for more than the worker that has taken it up knows of."""
    detail = f"no worker of the release that knows {unknown} has taken it up yet. It waits for one; nothing is lost"
    return _problem("waits-for-a-newer-worker", HTTPStatus.SERVICE_UNAVAILABLE, "It waits for a newer worker", detail)


def http_problem(status: int, detail: str, **more: Any) -> Problem:
    """A problem that the HTTP layer has found."""
    kind = _OF_HTTP.get(status, f"http-{status}")
    return _problem(kind, status, kind.replace("-", " ").capitalize(), detail, **more)


def retry_after(error: Exception) -> int | None:
    """Seconds after which the same request may do better."""
    if isinstance(error, TooManyRequests):
        return max(1, round(error.seconds + 0.5))
    return 5 if problem_of(error).status == HTTPStatus.SERVICE_UNAVAILABLE else None


def _more(error: Exception) -> dict[str, Any]:
    if isinstance(error, lifecycle.InvalidTenant):
        return {"errors": list(error.problems)}
    if isinstance(error, lifecycle.DoesNotFit):
        return {"remove": list(error.remove) or None, "plan": error.plan}
    if isinstance(error, lifecycle.WouldLoseMessages):
        return {"queues": error.queues}
    return {}


def _problem(kind: str, status: int, title: str, detail: str, **more: Any) -> Problem:
    return Problem(type=f"{_TYPE}{kind}", title=title, status=int(status), detail=detail, **more)


log = logging.getLogger(__name__)


def error_response(request: Request, error: Exception) -> Response:
    """The answer that an error of ours is."""
    if isinstance(error, RegistryError):
        log.error("request %s: %s", request.state.request_id, error)
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, InvalidKey) else {}
    if (seconds := retry_after(error)) is not None:
        headers["Retry-After"] = str(seconds)
    problem = Problem.model_validate(for_callers(problem_of(error).as_json()))
    return problem_response(request, problem, headers)


def problem_response(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem, with the request's id."""
    told = problem.model_copy(update={"request_id": request.state.request_id})
    return JSONResponse(told.as_json(), problem.status, dict(headers or {}), MEDIA_TYPE)


_ABOUT: Final[dict[int, str]] = {
    401: "No valid API key was sent.",
    403: "The key may not do this.",
    404: "There is no such thing.",
    409: "The tenant's state, or an operation that is under way, does not allow it.",
    410: "The credentials were handed out.",
    422: "What is asked can't be, or does not fit.",
    429: "Too many requests; `Retry-After` says when to ask again.",
    503: "The database does not answer; nothing was taken on.",
}
_ABOUT_ALWAYS: Final = {
    400: "No request that could be read.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    500: "A defect.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, for its `responses`."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    about = {**{status: _ABOUT[status] for status in statuses}, **_ABOUT_ALWAYS}
    return {status: {"description": about[status], "content": content} for status in about}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema(
            ref_template="#/components/schemas/{model}"
        )
        app.openapi_schema = document
    return app.openapi_schema
