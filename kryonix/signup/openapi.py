"""The description of the service: every answer, and every problem it may be."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from kryonix.signup.problems import MEDIA_TYPE, Problem

__all__ = ["describe", "problems"]

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
