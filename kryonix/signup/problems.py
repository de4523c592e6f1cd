"""Problem details (RFC 9457): of errors, in answers, and in the OpenAPI document."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from kryonix.engines import errors as engines
from kryonix.fleet.placement import NoRoom
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.errors import RegistryError, RegistryUnavailable
from kryonix.signup.errors import InvalidKey, MonitoringOff, OperationUnderWay, SignupError, TooManyRequests
from kryonix.tenants import errors as tenants
from kryonix.topology.errors import InvalidInput, nearest
from kryonix.topology.naming import TENANT_ID
from kryonix.topology.tenants import ID_RULE, suggest_id

MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:kryonix:problem:"


class Problem(BaseModel):
    """Problem details (RFC 9457). `detail` says what is wrong and what to do."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="The kind of problem, as a stable URN: urn:kryonix:problem:KIND")
    title: str = Field(description="The kind of problem in words")
    status: int = Field(description="The HTTP status, also in a failed operation")
    detail: str = Field(description="The thing, the value received, the rule, and what to do")
    errors: list[str] | None = Field(None, description="Each single error, where there may be several")
    operation: str | None = Field(None, description="The operation in progress")
    remove: list[str] | None = Field(None, description="Modules to remove so that the rest fits")
    plan: str | None = Field(None, description="The smallest plan that fits")
    queues: dict[str, int] | None = Field(None, description="Queues that would be deleted, with their message counts")
    request_id: str | None = Field(None, description="The request's id in the service's log")

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


# The first matching class counts, so a class comes before its base.
_KINDS: Final[tuple[tuple[type[Exception], str, HTTPStatus, str], ...]] = (
    (tenants.InvalidTenant, "invalid-tenant", HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid tenant"),
    (tenants.DoesNotFit, "does-not-fit", HTTPStatus.UNPROCESSABLE_ENTITY, "The modules do not fit the plan"),
    (tenants.TenantExists, "tenant-exists", HTTPStatus.CONFLICT, "Tenant already exists"),
    (tenants.UnknownTenant, "unknown-tenant", HTTPStatus.NOT_FOUND, "Unknown tenant"),
    (tenants.WouldLoseMessages, "would-lose-messages", HTTPStatus.CONFLICT, "Messages would be lost"),
    (tenants.WrongState, "wrong-state", HTTPStatus.CONFLICT, "The tenant's state does not allow this"),
    (NoRoom, "no-room", HTTPStatus.CONFLICT, "No cell has room"),
    (tenants.TenantBusy, "tenant-busy", HTTPStatus.CONFLICT, "Another operation holds the tenant"),
    (InvalidInput, "invalid-input", HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid input"),
    (RegistryUnavailable, "registry-unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer"),
    (BrokerUnavailable, "broker-unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "The broker does not answer"),
    (engines.LifecycleError, "not-done", HTTPStatus.BAD_GATEWAY, "The operation failed"),
)
# Python's own names of statuses differ between its versions.
_OF_HTTP: Final = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "content-too-large",
    415: "unsupported-media-type",
    422: "unprocessable-entity",
}


_FOR_CALLERS: Final = frozenset(
    {
        *(name for error, name, _, _ in _KINDS if issubclass(error, (engines.Refused, InvalidInput))),
        *(error.kind for error in SignupError.__subclasses__()),
        *_OF_HTTP.values(),
        "registry-unavailable",
        "internal",
        "waits-for-a-newer-worker",
        "restored",
    }
)
"""Problems written for callers. The text of any other, also of a later release's, may come from a provider, a broker or
a database, and name an internal address."""

_COMMAND: Final = re.compile(r" \(`(?:kryonix |--)[^`]+`\)")
"""A command in an error's text: callers of the service have no command line."""
_ADDRESS: Final = re.compile(r"\b[a-z][a-z0-9+]*://[^\s'\")]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", re.IGNORECASE)


def for_callers(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Return the problem for callers without the admin scope: without addresses of the platform."""
    if str(problem.get("type", "")).removeprefix(_TYPE) in _FOR_CALLERS:
        # An engine may wrap the message in its own text.
        return {**problem, "detail": without_addresses(str(problem.get("detail", "")))}
    shown = {key: value for key, value in problem.items() if key != "errors"}
    title = problem.get("title", "The operation failed")
    return {**shown, "detail": f"{title}. The reason is in the service's log, and visible with a key of scope admin"}


def without_addresses(text: str) -> str:
    """Return the text without addresses of the platform, for callers without the admin scope."""
    return _ADDRESS.sub("(an address)", text)


def problem_of(error: Exception) -> Problem:
    """Return the problem for an error. A defect's text is not shown: it goes to the log."""
    if isinstance(error, SignupError):
        operation = error.operation if isinstance(error, OperationUnderWay) else None
        return _problem(error.kind, error.status, _title(error.kind), str(error), operation=operation)
    for kind, name, status, title in _KINDS:
        if isinstance(error, kind):
            detail = _COMMAND.sub("", str(error))
            if isinstance(error, RegistryUnavailable):  # its text names an address, and belongs in the log only
                detail = f"{title}. Try again in a moment"
            return _problem(name, status, title, detail, **_more(error))
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "internal error; the log has it under this request's or operation's id. Try again"
    return _problem("internal", status, status.phrase, detail)


def unknown_to_worker(unknown: str) -> Problem:
    """Return the problem of an operation that waits for a worker of a newer release."""
    detail = f"the operation waits for a worker of a release that knows {unknown}. Nothing is lost"
    return _problem("waits-for-a-newer-worker", HTTPStatus.SERVICE_UNAVAILABLE, "Waiting for a newer worker", detail)


def http_problem(status: int, detail: str, **more: Any) -> Problem:
    """Return a problem found by the HTTP layer."""
    kind = _OF_HTTP.get(status, f"http-{status}")
    return _problem(kind, status, _title(kind), detail, **more)


def retry_after(error: Exception) -> int | None:
    """Return the seconds after which the request may succeed, or None."""
    if isinstance(error, TooManyRequests):
        return max(1, round(error.seconds + 0.5))
    if isinstance(error, MonitoringOff):
        return None  # until somebody turns it on
    return 5 if problem_of(error).status == HTTPStatus.SERVICE_UNAVAILABLE else None


def _title(kind: str) -> str:
    return kind.replace("-", " ").capitalize()


def _more(error: Exception) -> dict[str, Any]:
    if isinstance(error, tenants.InvalidTenant):
        return {"errors": list(error.problems)}
    if isinstance(error, tenants.DoesNotFit):
        return {"remove": list(error.remove) or None, "plan": error.plan}
    if isinstance(error, tenants.WouldLoseMessages):
        return {"queues": error.queues}
    return {}


def _problem(kind: str, status: int, title: str, detail: str, **more: Any) -> Problem:
    return Problem(type=f"{_TYPE}{kind}", title=title, status=int(status), detail=detail, **more)


_RULES: Final = (
    (TENANT_ID, ID_RULE),
    ("x00", "printable characters only"),
    ("x21", "printable ASCII characters without spaces"),
)
"""What a field's pattern means, by a part of the pattern."""
_SHOULD: Final = re.compile(r"^(?:Input|String|List|Value) should ")


def describe_invalid(error: Mapping[str, Any], body: type[BaseModel] | None) -> str:
    """Describe one invalid field. The value is not shown: it may be a secret in the wrong place."""
    field, pattern = ".".join(str(part) for part in error["loc"]), str(error.get("ctx", {}).get("pattern", ""))
    match error["type"]:
        case "missing":
            said = "it is required and missing"
        case "extra_forbidden":
            said = f"unknown field; {nearest(error['loc'][-1], body.model_fields if body else ())}"
        case "json_invalid":
            field, at = error["loc"]
            said = f"not valid JSON at character {at} ({error['ctx']['error']}). Send one JSON object"
        case "string_pattern_mismatch":
            rules = [rule for part, rule in _RULES if part in pattern]
            said = f"must be {rules[0]}" if rules else f"must match the pattern {pattern}"
            if TENANT_ID in pattern:
                said += suggest_id(str(error["input"])[:100])
        case "model_attributes_type" | "model_type" | "dict_type":
            said = "must be a JSON object"
        case _:
            said = _SHOULD.sub("must ", str(error["msg"]))
    return f"{field}: {said}"


log = logging.getLogger(__name__)


def error_response(request: Request, error: Exception) -> Response:
    """Return the response for an error of ours."""
    if isinstance(error, RegistryError):
        log.error("request %s: %s", request.state.request_id, error)
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, InvalidKey) else {}
    if (seconds := retry_after(error)) is not None:
        headers["Retry-After"] = str(seconds)
    problem = Problem.model_validate(for_callers(problem_of(error).as_json()))
    return problem_response(request, problem, headers)


def problem_response(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem as a response, with the request's id."""
    body = problem.model_copy(update={"request_id": request.state.request_id}).as_json()
    return JSONResponse(body, problem.status, dict(headers or {}), MEDIA_TYPE)


_ABOUT: Final[dict[int, str]] = {
    400: "The request can't be read.",
    401: "The API key is missing or invalid.",
    403: "The key's scope does not allow this.",
    404: "Not found.",
    409: "The tenant's state or an operation in progress does not allow this.",
    408: "The body did not arrive in time.",
    410: "The credentials were delivered before, or have expired.",
    413: "The body is too large.",
    415: "The body's media type is not JSON.",
    422: "The request is invalid, or does not fit the plan.",
    429: "Too many requests; wait for `Retry-After` seconds.",
    500: "Internal error.",
    503: "The database, or where it is asked the monitoring, does not answer; nothing was changed.",
}
_ANY_REQUEST: Final = (400, 408, 413, 415, 500)
"""Statuses that every request can get."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` for problems with these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _ABOUT[status], "content": content} for status in (*statuses, *_ANY_REQUEST)}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document."""
    document = FastAPI.openapi(app)
    document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    return document
