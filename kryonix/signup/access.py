"""Who asks, how often, and whether they may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from kryonix.signup.errors import InvalidKey
from kryonix.signup.keys import Caller, Scope, authenticate
from kryonix.signup.services import Services, services

__all__ = ["Admin", "Reader", "Writer"]

_bearer = HTTPBearer(auto_error=False, description="An API key, made by `kryonix signup keys create`.")


def _caller(
    request: Request,
    presented: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    using: Annotated[Services, Depends(services)],
) -> Caller:
    """The caller. Who has no valid key is counted by address, before the database is asked."""
    peer = request.client.host if request.client else "unknown"
    if presented is None:
        using.rate.take(f"peer {peer}")
        raise InvalidKey
    # By the key's public part, so that a key that is guessed at doesn't get a bucket of its own with every guess.
    using.rate.take(f"key {presented.credentials[:16]} {peer}")
    try:
        with using.database.transaction() as connection:
            caller = authenticate(connection, presented.credentials)
    except InvalidKey:
        using.rate.take(f"peer {peer}")
        raise
    request.state.key_id = caller.key_id
    return caller


def _with(scope: Scope) -> Callable[..., Caller]:
    def check(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        caller.must(scope)
        return caller

    return check


Reader = Annotated[Caller, Depends(_with("read"))]
Writer = Annotated[Caller, Depends(_with("write"))]
Admin = Annotated[Caller, Depends(_with("admin"))]
