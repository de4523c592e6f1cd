"""The routes of operations: their state, their event streams and their credentials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from kryonix.signup import operations
from kryonix.signup.auth import Reader, Writer
from kryonix.signup.database import Database
from kryonix.signup.dependencies import Using
from kryonix.signup.errors import AlreadyDelivered, InvalidKey, NotReady, UnknownOperation
from kryonix.signup.keys import Caller
from kryonix.signup.operations import Operation
from kryonix.signup.problems import problem_of, problems
from kryonix.signup.schemas import CredentialsAnswer, CredentialsRequest, OperationAnswer
from kryonix.signup.sealing import open_sealed
from kryonix.signup.streams import Streams

running = APIRouter(prefix="/v1/operations", tags=["operations"])

_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "One event per change, with the operation as `data`. The stream ends with the operation, or "
        "with an event `problem` when the key is revoked.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@running.get("/{operation}", responses=problems(401, 404, 422, 429, 503))
def show_operation(operation: UUID, using: Using, caller: Reader) -> OperationAnswer:
    """Return an operation."""
    return OperationAnswer.of(_fetch(using.database, operation), caller.scope)


async def _place(using: Using, caller: Reader) -> AsyncIterator[None]:
    """Hold one of the key's streams until the response ends for any reason."""
    with using.streams.place(caller.key_id):
        yield


@running.get(
    "/{operation}/events",
    responses={**_STREAM, **problems(401, 404, 422, 429, 503)},
    response_class=StreamingResponse,
    dependencies=[Depends(_place)],
)
async def follow_operation(operation: UUID, using: Using, caller: Reader) -> StreamingResponse:
    """Stream an operation's progress as server-sent events. A key may have 50 open streams per process."""
    first = await run_in_threadpool(_fetch, using.database, operation)
    return StreamingResponse(_events(using.streams, first, caller), media_type="text/event-stream")


@running.post("/{operation}/credentials", responses=problems(401, 403, 404, 409, 410, 422, 429, 503))
def fetch_credentials(
    operation: UUID, wanted: CredentialsRequest, using: Using, caller: Writer, request: Request
) -> CredentialsAnswer:
    """Return the credentials that an operation created, once, to the caller who requested it."""
    found = _fetch(using.database, operation)
    request.state.operation, request.state.tenant = found.id, found.tenant
    if found.key_id != caller.key_id:
        raise UnknownOperation(operation)
    if found.credentials in ("delivered", "expired"):
        raise AlreadyDelivered(operation, found.tenant, expired=found.credentials == "expired")
    if found.sealed is None:
        raise NotReady(operation, found.kind, found.status, gives=found.kind in operations.GIVES_CREDENTIALS)
    opened = open_sealed(wanted.credentials_key, str(found.id), found.sealed)
    with using.database.transaction() as connection:
        if not operations.deliver(connection, found.id):
            raise AlreadyDelivered(operation, found.tenant)
    return CredentialsAnswer(**opened)


def _fetch(database: Database, id: UUID) -> Operation:
    with database.transaction() as connection:
        return operations.fetch(connection, id)


async def _events(streams: Streams, first: Operation, caller: Caller) -> AsyncIterator[str]:
    """Yield the stream's text. It ends with an event `problem` if the key becomes invalid."""
    try:
        async with aclosing(streams.follow(first, caller.key_id)) as changes:
            async for operation in changes:
                if operation is None:
                    yield ": keep-alive\n\n"
                else:
                    answer = OperationAnswer.of(operation, caller.scope).model_dump_json()
                    yield f"id: {operation.revision}\nevent: {operation.status}\ndata: {answer}\n\n"
    except InvalidKey as error:
        yield f"event: problem\ndata: {json.dumps(problem_of(error).as_json())}\n\n"
