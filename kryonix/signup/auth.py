"""API keys, the scopes that routes require, and limits on how often each caller and network may ask."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from kryonix.registry.errors import RegistryError
from kryonix.signup.database import Database
from kryonix.signup.errors import InvalidKey, SignupError, TooManyRequests
from kryonix.signup.keys import Caller, Scope, authenticate, digest_of
from kryonix.signup.problems import error_response

KEYED: Final = "/v1/"
"""Paths that need an API key start with this."""

_bearer = HTTPBearer(auto_error=False, description="An API key, made by `kryonix signup keys create`.")


def unidentified(request: Request) -> bool:
    """Return True if the request needs a key and has no valid one."""
    return request.url.path.startswith(KEYED) and not hasattr(request.state, "caller")


_Described = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


def _with(scope: Scope) -> Callable[..., Caller]:
    def check(request: Request, _described: _Described) -> Caller:
        if unidentified(request):
            raise InvalidKey
        caller: Caller = request.state.caller
        caller.must(scope)
        return caller

    return check


Reader = Annotated[Caller, Depends(_with("read"))]
Writer = Annotated[Caller, Depends(_with("write"))]
Admin = Annotated[Caller, Depends(_with("admin"))]


_BUCKETS: Final = 10_000
"""Maximum number of buckets. The least recently used is dropped first; its caller starts again with a full one."""


class RateLimit:
    """A token bucket per caller, in this process's memory: `burst` requests at once, `per_second` on average."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._lock = Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, caller: str) -> None:
        """Count a request. Raises TooManyRequests."""
        now = self._clock()
        with self._lock:
            tokens, at = self._buckets.pop(caller, (float(self._burst), now))
            tokens = min(self._burst, tokens + (now - at) * self._per_second)
            allowed = tokens >= 1
            self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
            if len(self._buckets) > _BUCKETS:
                self._buckets.popitem(last=False)
        if not allowed:
            raise TooManyRequests((1 - tokens) / self._per_second)


_PROBES: Final = ("/healthz", "/readyz", "/metrics")
"""Each has its own bucket per address, so that a client refused elsewhere still sees that the service is alive."""
_REMEMBERED: Final = 1000
_V6_PREFIX: Final = 64
"""A provider gives each customer at least such a network, and its addresses cost as little as ports."""


class Admission:
    """Add the authenticated caller to the request's state, or answer 429. Requests are counted by key.

    A request below /v1/ without a valid key continues without a caller; the route refuses it. A key never seen valid
    counts against its network first, which limits the database queries that guesses cost. A key seen valid does not,
    so guesses from the same network can't lock its caller out.
    """

    def __init__(self, app: ASGIApp, database: Database, rate: RateLimit) -> None:
        self._app = app
        self._database = database
        self._rate = rate
        self._lock = Lock()
        self._valid: OrderedDict[bytes, None] = OrderedDict()

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            await self._admit(request)
        except (SignupError, RegistryError) as error:
            request.state.turned_away = isinstance(error, TooManyRequests)
            await error_response(request, error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _admit(self, request: Request) -> None:
        path, network = request.url.path, network_of(address_of(request.scope))
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        if not path.startswith(KEYED) or scheme.lower() != "bearer" or not presented:
            self._rate.count(f"{path if path in _PROBES else 'anybody'} {network}")
            return
        with suppress(InvalidKey):
            caller = await run_in_threadpool(self._authenticated, presented, network)
            request.state.caller, request.state.key_id = caller, caller.key_id

    def _authenticated(self, presented: str, network: str) -> Caller:
        """Return the caller. Raises InvalidKey or TooManyRequests."""
        digest = digest_of(presented)
        known = digest in self._valid
        self._rate.count(f"key {digest.hex()} {network}" if known else f"guess {network}")
        try:
            with self._database.transaction() as connection:
                caller = authenticate(connection, presented)
        except InvalidKey:
            with self._lock:
                self._valid.pop(digest, None)
            raise
        if not known:
            self._rate.count(f"key {digest.hex()} {network}")
        with self._lock:
            self._valid[digest] = None
            self._valid.move_to_end(digest)
            if len(self._valid) > _REMEMBERED:
                self._valid.popitem(last=False)
        return caller


def address_of(scope: ASGIScope) -> str:
    """Return the caller's IP address, or `unknown`: behind a proxy the value comes from the proxy."""
    host, _ = scope.get("client") or ("", 0)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def network_of(address: str) -> str:
    """Return the network that an address belongs to: an IPv4 address itself, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network(f"{address.partition('%')[0]}/{_V6_PREFIX}", strict=False))
