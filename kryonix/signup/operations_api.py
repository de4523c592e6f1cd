"""Routes of operations: state, event stream, credentials."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from kryonix.registry.errors import RegistryError
from kryonix.signup import auth as keys
from kryonix.signup import operations
from kryonix.signup.auth import Caller, Reader, Writer
from kryonix.signup.database import Database
from kryonix.signup.errors import AlreadyDelivered, InvalidKey, NotReady, TooManyStreams, UnknownOperation
from kryonix.signup.operations import Operation
from kryonix.signup.problems import problem_of, problems
from kryonix.signup.schemas import CredentialsAnswer, CredentialsRequest, OperationAnswer
from kryonix.signup.sealing import open_sealed
from kryonix.signup.services import Services, services

__all__ = ["MOST_PER_KEY", "Streams", "router"]


MOST_PER_KEY: Final = 50
"""Streams of one API key that one process serves at a time."""

_LOOK_S: Final = 0.3
_ALIVE_S: Final = 15


@dataclass(eq=False, slots=True)
class _Follower:
    """One stream: what it has still to be told, and whether its key is still good."""

    key_id: str
    operation: Operation
    let_in: bool = True
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Streams:
    """The streams of one process. All of it runs in the event loop, but for the one look at the database."""

    def __init__(self, database: Database, *, most_per_key: int = MOST_PER_KEY, pause_s: float = _LOOK_S) -> None:
        self._database = database
        self._most = most_per_key
        self._pause_s = pause_s
        self._open: Counter[str] = Counter()
        self._followers: set[_Follower] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """One of the streams that a key may have. Raises TooManyStreams."""
        if self._open[key_id] >= self._most:
            raise TooManyStreams(self._most)
        self._open[key_id] += 1
        try:
            yield
        finally:
            self._open[key_id] -= 1
            if not self._open[key_id]:
                del self._open[key_id]

    async def follow(self, operation: Operation, key_id: str) -> AsyncGenerator[Operation | None, None]:
        """The operation as it is, and each time that it has changed, to its end; None from time to time meanwhile.

        Raises InvalidKey once the key has been revoked or has expired.
        """
        follower = _Follower(key_id, operation)
        self._followers.add(follower)
        try:
            yield operation
            told = operation.revision
            while not follower.operation.ended or follower.operation.revision != told:
                if follower.operation.revision == told:
                    self._look_on()
                    if not await _within(_ALIVE_S, follower.news.wait):
                        yield None
                follower.news.clear()
                if not follower.let_in:
                    raise InvalidKey
                if follower.operation.revision != told:
                    told = follower.operation.revision
                    yield follower.operation
        finally:
            self._followers.discard(follower)

    def _look_on(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Look at what is followed, as long as anything is."""
        while self._followers:
            await asyncio.sleep(self._pause_s)
            followers = tuple(self._followers)
            if not followers:
                return
            try:
                changed, valid = await run_in_threadpool(self._ask, followers)
            except RegistryError:
                continue  # it will be back, or the client gives up first
            _tell(followers, {operation.id: operation for operation in changed}, valid)

    def _ask(self, followers: Collection[_Follower]) -> tuple[list[Operation], set[str]]:
        oldest: dict[UUID, int] = {}
        for each in followers:
            known = each.operation
            oldest[known.id] = min(oldest.get(known.id, known.revision), known.revision)
        with self._database.transaction() as connection:
            valid = keys.fetch_valid(connection, {each.key_id for each in followers})
            return operations.fetch_changed(connection, oldest), valid


def _tell(followers: Collection[_Follower], changed: Mapping[UUID, Operation], valid: Collection[str]) -> None:
    for follower in followers:
        newer = changed.get(follower.operation.id, follower.operation)
        gone = follower.key_id not in valid
        if newer.revision > follower.operation.revision or gone:
            follower.operation, follower.let_in = newer, not gone
            follower.news.set()


async def _within(seconds: float, wait: Callable[[], Awaitable[object]]) -> bool:
    """Whether what is waited for has come in time."""
    try:
        await asyncio.wait_for(wait(), seconds)
    except TimeoutError:
        return False
    return True


router = APIRouter(prefix="/v1/operations", tags=["operations"])

Using = Annotated[Services, Depends(services)]
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "An event per change, each with the operation as `data`; the stream ends with the operation, or "
        "with an event `problem` once the key has been revoked.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/{operation}", responses=problems(401, 404, 422, 429, 503))
def show_operation(operation: UUID, using: Using, caller: Reader) -> OperationAnswer:
    """How an operation stands."""
    return OperationAnswer.of(_fetch(using.database, operation), caller.scope)


@router.get(
    "/{operation}/events", responses={**_STREAM, **problems(401, 404, 422, 429, 503)}, response_class=StreamingResponse
)
async def follow_operation(operation: UUID, using: Using, caller: Reader) -> StreamingResponse:
    """How an operation goes, live, as server-sent events. A key may have some 50 such streams open."""
    with ExitStack() as held:
        held.enter_context(using.streams.place(caller.key_id))
        first = await run_in_threadpool(_fetch, using.database, operation)
        return _Stream(_events(using.streams, first, caller), held.pop_all())


@router.post("/{operation}/credentials", responses=problems(401, 403, 404, 409, 410, 422, 429, 503))
def fetch_credentials(
    operation: UUID, wanted: CredentialsRequest, using: Using, caller: Writer, request: Request
) -> CredentialsAnswer:
    """Hand out what an operation has made, once, to the caller whose operation it is."""
    found = _fetch(using.database, operation)
    request.state.operation, request.state.tenant = found.id, found.tenant
    if found.key_id != caller.key_id:
        raise UnknownOperation(operation)
    if found.credentials in ("delivered", "expired"):
        raise AlreadyDelivered(operation)
    if found.sealed is None:
        raise NotReady(operation, found.status)
    opened = open_sealed(wanted.credentials_key, str(found.id), found.sealed)
    with using.database.transaction() as connection:
        if not operations.deliver(connection, found.id):
            raise AlreadyDelivered(operation)
    return CredentialsAnswer(**opened)


def _fetch(database: Database, id: UUID) -> Operation:
    with database.transaction() as connection:
        return operations.fetch(connection, id)


class _Stream(StreamingResponse):
    """Gives back what it holds at its end, however it ends."""

    def __init__(self, events: AsyncIterator[str], held: ExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await super().__call__(scope, receive, send)


async def _events(streams: Streams, first: Operation, caller: Caller) -> AsyncIterator[str]:
    """The stream's text. It ends with an event `problem` where the key ends before the operation."""
    try:
        async with aclosing(streams.follow(first, caller.key_id)) as changes:
            async for operation in changes:
                if operation is None:
                    yield ": still here\n\n"
                else:
                    answer = OperationAnswer.of(operation, caller.scope).model_dump_json()
                    yield f"id: {operation.revision}\nevent: {operation.status}\ndata: {answer}\n\n"
    except InvalidKey as error:
        yield f"event: problem\ndata: {json.dumps(problem_of(error).as_json())}\n\n"
