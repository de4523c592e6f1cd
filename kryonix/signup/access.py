"""Whether a caller may do what it asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from kryonix.signup.admission import KEYED
from kryonix.signup.errors import InvalidKey
from kryonix.signup.keys import Caller, Scope

__all__ = ["Admin", "Reader", "Writer", "unidentified"]

_bearer = HTTPBearer(auto_error=False, description="An API key, made by `kryonix signup keys create`.")


def unidentified(request: Request) -> bool:
    """Return True for a request that needs a key and has no valid one."""
    return request.url.path.startswith(KEYED) and not hasattr(request.state, "caller")


def _caller(request: Request, _described: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> Caller:
    if unidentified(request):
        raise InvalidKey
    found: Caller = request.state.caller
    return found


def _with(scope: Scope) -> Callable[..., Caller]:
    def check(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        caller.must(scope)
        return caller

    return check


Reader = Annotated[Caller, Depends(_with("read"))]
Writer = Annotated[Caller, Depends(_with("write"))]
Admin = Annotated[Caller, Depends(_with("admin"))]
