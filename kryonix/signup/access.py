"""Who asks, how often, and whether they may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from kryonix.signup.errors import InvalidKey
from kryonix.signup.keys import Caller, Scope, authenticate
from kryonix.signup.services import Services, services

__all__ = ["Admin", "Reader", "Writer", "identify", "unidentified"]

_bearer = HTTPBearer(auto_error=False, description="An API key, made by `kryonix signup keys create`.")


def identify(request: Request, using: Services) -> Caller:
    """The caller. Who has no valid key is counted by address, before the database is asked.

    Raises InvalidKey and TooManyRequests.
    """
    peer = request.client.host if request.client else "unknown"
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not presented:
        using.rate.take(f"peer {peer}")
        raise InvalidKey
    # By the key's public part, so that a key that is guessed at doesn't get a bucket of its own with every guess.
    using.rate.take(f"key {presented[:16]} {peer}")
    try:
        with using.database.transaction() as connection:
            caller = authenticate(connection, presented)
    except InvalidKey:
        using.rate.take(f"peer {peer}")
        raise
    request.state.key_id = caller.key_id
    return caller


def unidentified(request: Request) -> bool:
    """Whether a request was refused before it was asked who sends it: bodies are read first."""
    return request.url.path.startswith("/v1/") and not hasattr(request.state, "key_id")


def _caller(
    request: Request,
    using: Annotated[Services, Depends(services)],
    _described: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Caller:
    return identify(request, using)


def _with(scope: Scope) -> Callable[..., Caller]:
    def check(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        caller.must(scope)
        return caller

    return check


Reader = Annotated[Caller, Depends(_with("read"))]
Writer = Annotated[Caller, Depends(_with("write"))]
Admin = Annotated[Caller, Depends(_with("admin"))]
