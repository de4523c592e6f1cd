"""Answers that say why there is no other."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from kryonix.registry.errors import RegistryError
from kryonix.signup.errors import InvalidKey
from kryonix.signup.problems import MEDIA_TYPE, Problem, for_callers, problem_of, retry_after

__all__ = ["error_response", "problem_response"]

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
