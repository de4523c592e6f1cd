"""The routes: tenants, plans and the catalog; operations; health and metrics."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from kryonix.registry.desired_states import fetch_desired_state, fetch_desired_states
from kryonix.signup import operations
from kryonix.signup.auth import Admin, Caller, Reader, Writer
from kryonix.signup.database import Database
from kryonix.signup.errors import AlreadyDelivered, InvalidKey, NothingAsked, NotReady, UnknownOperation
from kryonix.signup.intake import Intake, new_tenant
from kryonix.signup.monitoring import Cached, Metrics, Readiness
from kryonix.signup.operations import Kind, Operation
from kryonix.signup.problems import problem_of, problems
from kryonix.signup.schemas import (
    TENANT_ID_PATTERN,
    AcceptedAnswer,
    CatalogAnswer,
    CredentialsAnswer,
    CredentialsRequest,
    NewTenant,
    OperationAnswer,
    PlanAnswer,
    TenantAnswer,
    TenantChange,
    TenantsPage,
)
from kryonix.signup.sealing import open_sealed
from kryonix.signup.streams import Streams
from kryonix.tenants.admission import admit
from kryonix.tenants.errors import UnknownTenant
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells

tenants = APIRouter(prefix="/v1", tags=["tenants"])
running = APIRouter(prefix="/v1/operations", tags=["operations"])
health = APIRouter(tags=["health"])
ROUTERS: Final = (tenants, running, health)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Services:
    """The parts of one service, shared by all of its requests."""

    database: Database
    catalog: Catalog
    cells: Cells
    intake: Intake
    metrics: Metrics
    readiness: Cached[Readiness]
    streams: Streams


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Using = Annotated[Services, Depends(_services)]
Id = Annotated[str, Path(pattern=TENANT_ID_PATTERN, description="The tenant's id.", examples=["acme"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Your name for this request. Repeated with the same key, it runs once and gets the same answer.",
    ),
]
_ACCEPTED: dict[str, Any] = {"status_code": 202, "response_model": AcceptedAnswer, "response_model_exclude_none": False}
_ON_TENANT: dict[str, Any] = {**_ACCEPTED, "responses": problems(401, 403, 404, 409, 422, 429, 503)}


class _Accept:
    """Accept an operation, and answer with it and its location."""

    def __init__(self, using: Using, request: Request, response: Response, key: IdempotencyKey = None) -> None:
        self._intake, self._request, self._response, self._key = using.intake, request, response, key

    def __call__(self, caller: Caller, kind: Kind, tenant: str, asked: dict[str, Any] | None = None) -> AcceptedAnswer:
        self._request.state.tenant = tenant
        accepted = self._intake.accept(kind, tenant, asked or {}, caller, self._key)
        self._request.state.operation = accepted.operation.id
        self._response.headers["Location"] = f"/v1/operations/{accepted.operation.id}"
        return AcceptedAnswer.of(accepted.operation, caller.scope, credentials_key=accepted.credentials_key)


Accept = Annotated[_Accept, Depends(_Accept)]


@tenants.get("/tenants", responses=problems(401, 422, 429, 503))
def list_tenants(
    using: Using,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200, description="Page size.")] = 50,
    after: Annotated[str, Query(max_length=40, description="The last id of the previous page.")] = "",
) -> TenantsPage:
    """List tenants with their own stack, ordered by id. Removed tenants are included."""
    with using.database.transaction() as connection:
        states = fetch_desired_states(connection, after=after.replace("\0", ""), limit=limit + 1)
        last = operations.fetch_last(connection, [state.cliente_id for state in states])
    page = [TenantAnswer.of(state, last.get(state.cliente_id), using.catalog, caller.scope) for state in states[:limit]]
    return TenantsPage(tenants=page, next=page[-1].id if len(states) > limit else None)


@tenants.get("/tenants/{tenant}", responses=problems(401, 404, 422, 429, 503))
def show_tenant(tenant: Id, using: Using, caller: Reader) -> TenantAnswer:
    """Return a tenant."""
    with using.database.transaction() as connection:
        state = fetch_desired_state(connection, tenant)
        last = operations.fetch_last(connection, [tenant])
    if state is None:
        raise UnknownTenant(tenant)
    return TenantAnswer.of(state, last.get(tenant), using.catalog, caller.scope)


@tenants.get("/catalog", responses=problems(401, 422, 429, 503))
def show_catalog(using: Using, caller: Reader) -> CatalogAnswer:
    """List the available modules and plans."""
    return CatalogAnswer.of(using.catalog)


@tenants.post("/plan", responses=problems(401, 422, 429, 503))
def plan(wanted: NewTenant, using: Using, caller: Reader) -> PlanAnswer:
    """Return a tenant's share of its plan's limits. Creates nothing."""
    topology = admit(new_tenant(wanted.asked(), using.catalog), using.catalog)
    return PlanAnswer.of(topology)


@tenants.post("/tenants", **_ACCEPTED, responses=problems(401, 403, 409, 422, 429, 503))
def create_tenant(wanted: NewTenant, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Create a tenant. When the operation has succeeded, fetch its credentials with this `credentials_key`."""
    return accept(caller, "create", wanted.id, wanted.asked())


@tenants.patch("/tenants/{tenant}", **_ON_TENANT)
def change_tenant(tenant: Id, wanted: TenantChange, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Change a tenant's modules, its plan, or both."""
    if wanted.modules is None and wanted.plan is None:
        raise NothingAsked
    return accept(caller, "change", tenant, wanted.asked())


@tenants.delete("/tenants/{tenant}", **_ON_TENANT)
def remove_tenant(
    tenant: Id,
    caller: Admin,
    accept: Accept,
    now: Annotated[bool, Query(description="Remove without the grace period in which `resume` undoes it.")] = False,
    accept_loss: Annotated[
        bool, Query(description="With `now`: delete the queues even if they hold messages.")
    ] = False,
) -> AcceptedAnswer:
    """Offboard a tenant: keep a final export, suspend it, and remove it after the grace period."""
    if not now:
        return accept(caller, "offboard", tenant)
    return accept(caller, "remove", tenant, {"accept_loss": True} if accept_loss else {})


@tenants.post("/tenants/{tenant}/suspend", **_ON_TENANT)
def suspend_tenant(tenant: Id, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Block the tenant's connections and close open ones. Nothing is deleted."""
    return accept(caller, "suspend", tenant)


@tenants.post("/tenants/{tenant}/resume", **_ON_TENANT)
def resume_tenant(tenant: Id, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Undo a suspension, or an offboarding within its grace period."""
    return accept(caller, "resume", tenant)


@tenants.post("/tenants/{tenant}/rotate", **_ON_TENANT)
def rotate_credentials(tenant: Id, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Create new credentials. The previous ones keep working for the configured overlap."""
    return accept(caller, "rotate", tenant)


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


@running.get(
    "/{operation}/events", responses={**_STREAM, **problems(401, 404, 422, 429, 503)}, response_class=StreamingResponse
)
async def follow_operation(operation: UUID, using: Using, caller: Reader) -> StreamingResponse:
    """Stream an operation's progress as server-sent events. A key may have 50 open streams per process."""
    with ExitStack() as held:
        held.enter_context(using.streams.place(caller.key_id))
        first = await run_in_threadpool(_fetch, using.database, operation)
        return _Stream(_events(using.streams, first, caller), held.pop_all())


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


class _Stream(StreamingResponse):
    """Release its resources when the response ends for any reason."""

    def __init__(self, events: AsyncIterator[str], held: ExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await super().__call__(scope, receive, send)


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


class Health(BaseModel):
    """The liveness answer."""

    status: str


@health.head("/healthz", include_in_schema=False)
@health.get("/healthz")
async def healthz() -> Health:
    """Return ok while the process runs. Uses neither the database nor a thread."""
    return Health(status="ok")


@health.head("/readyz", include_in_schema=False)
@health.get(
    "/readyz",
    responses={503: {"model": Readiness, "description": "The database does not answer, or no worker is running."}},
)
def readyz(using: Using, response: Response) -> Readiness:
    """Return 200 while the database answers and a worker is running."""
    found = using.readiness.get()
    if not found.ready:
        response.status_code = 503
    return found


@health.head("/metrics", include_in_schema=False)
@health.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(using: Using) -> Response:
    """Return metrics in Prometheus' text format."""
    return Response(using.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
