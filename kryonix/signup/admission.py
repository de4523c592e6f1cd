"""Authenticate callers by key below /v1/, and limit how often each caller and network may ask."""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from kryonix.registry.errors import RegistryError
from kryonix.signup.auth import KEYED, Caller, authenticate
from kryonix.signup.database import Database
from kryonix.signup.errors import InvalidKey, SignupError, TooManyRequests
from kryonix.signup.problems import error_response

__all__ = ["Admission", "Authenticator", "RateLimit", "address_of", "network_of"]


_BUCKETS: Final = 10_000
"""Callers with a bucket. The one that has asked least recently is forgotten first, and begins with a full one."""


class RateLimit:
    """Lets `burst` requests pass at once, and `per_second` in the long run."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._lock = Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
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
"""Each has a bucket of its own per address: who is refused elsewhere does not take the service for dead."""
_REMEMBERED: Final = 1000
_V6_PREFIX: Final = 64
"""What one customer of a provider has at least; an address of it is made up as easily as a port."""


class Authenticator:
    """Finds the caller that presents a key, and counts requests by key.

    A key that was not valid before is counted by address first, so that guesses don't cost the database more than the
    rate allows. One that was valid is not, so that guesses from the same address keep no caller out.
    """

    def __init__(self, database: Database, rate: RateLimit) -> None:
        self._database = database
        self._rate = rate
        self._lock = Lock()
        self._valid: OrderedDict[bytes, None] = OrderedDict()

    def caller(self, presented: str, network: str) -> Caller:
        """Raises InvalidKey and TooManyRequests."""
        digest = hashlib.sha256(presented.encode(errors="replace")).digest()
        if digest not in self._valid:
            self._rate.take(f"guess {network}")
        else:
            self._rate.take(f"key {digest.hex()} {network}")
        try:
            with self._database.transaction() as connection:
                caller = authenticate(connection, presented)
        except InvalidKey:
            with self._lock:
                self._valid.pop(digest, None)
            raise
        if digest not in self._valid:
            self._rate.take(f"key {digest.hex()} {network}")
        with self._lock:
            self._valid[digest] = None
            self._valid.move_to_end(digest)
            if len(self._valid) > _REMEMBERED:
                self._valid.popitem(last=False)
        return caller


class Admission:
    """Notes the caller in the request's state, where there is one; answers 429 to who asks too often.

    A request below /v1/ without a valid key goes on without a caller, and the route refuses it.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator, rate: RateLimit) -> None:
        self._app = app
        self._authenticator = authenticator
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            self._rate.take(f"{path if path in _PROBES else 'anybody'} {network}")
            return
        with suppress(InvalidKey):
            caller = await run_in_threadpool(self._authenticator.caller, presented, network)
            request.state.caller, request.state.key_id = caller, caller.key_id


def address_of(scope: Scope) -> str:
    """The caller's IP address. Behind a proxy it is what the proxy says, so what is no address is not passed on."""
    host, _ = scope.get("client") or ("", 0)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def network_of(address: str) -> str:
    """Whose address it is, as far as it tells: itself, or of version 6 the network that a customer has."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network(f"{address.partition('%')[0]}/{_V6_PREFIX}", strict=False))
