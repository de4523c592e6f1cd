"""/v1/operations: how they go, live too, and the credentials that they have made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from kryonix.registry.errors import RegistryError
from kryonix.signup import operations
from kryonix.signup.access import Reader, Writer
from kryonix.signup.answers import CredentialsAnswer, OperationAnswer
from kryonix.signup.database import Database
from kryonix.signup.errors import AlreadyDelivered, NotReady, UnknownOperation
from kryonix.signup.openapi import problems
from kryonix.signup.operations import Operation
from kryonix.signup.requests import CredentialsRequest
from kryonix.signup.sealing import open_sealed
from kryonix.signup.services import Services, services

__all__ = ["router"]

router = APIRouter(prefix="/v1/operations", tags=["operations"])

Using = Annotated[Services, Depends(services)]
_LOOK_S: Final = 0.3
_ALIVE_S: Final = 15
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "An event per change, each with the operation as `data`; the stream ends with the operation.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/{operation}", responses=problems(401, 404, 422, 429, 503))
def show_operation(operation: UUID, using: Using, caller: Reader) -> OperationAnswer:
    """How an operation stands."""
    return OperationAnswer.of(_fetch(using.database, operation))


@router.get(
    "/{operation}/events", responses={**_STREAM, **problems(401, 404, 422, 429, 503)}, response_class=StreamingResponse
)
def follow_operation(operation: UUID, using: Using, caller: Reader) -> StreamingResponse:
    """How an operation goes, live, as server-sent events."""
    first = _fetch(using.database, operation)
    return StreamingResponse(_events(using.database, first), media_type="text/event-stream")


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


async def _events(database: Database, first: Operation) -> AsyncIterator[str]:
    operation, told, said = first, -1, time.monotonic()
    while True:
        if operation.revision != told:
            told, said = operation.revision, time.monotonic()
            yield f"id: {told}\nevent: {operation.status}\ndata: {OperationAnswer.of(operation).model_dump_json()}\n\n"
            if operation.ended:
                return
        elif time.monotonic() - said > _ALIVE_S:
            said = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(_LOOK_S)
        try:
            operation = await run_in_threadpool(_fetch, database, operation.id)
        except RegistryError:
            continue  # it will be back, or the client gives up first
