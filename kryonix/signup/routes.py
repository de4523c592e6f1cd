"""The routes: tenants, plans and the catalog; operations and their credentials; the key; health and metrics."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from kryonix.signup import operations
from kryonix.signup.alerts import AlertsAnswer
from kryonix.signup.auth import Admin, Reader, Writer
from kryonix.signup.charts import ChartsAnswer, Hours
from kryonix.signup.database import Database
from kryonix.signup.dependencies import Accept, Id, Using
from kryonix.signup.errors import AlreadyDelivered, InvalidKey, NothingAsked, NotReady, UnknownOperation
from kryonix.signup.intake import new_tenant
from kryonix.signup.keys import Caller
from kryonix.signup.listing import STANDING, Listed, Sort, Stage, fetch_key_names, fetch_listed, fetch_page
from kryonix.signup.monitoring import Readiness
from kryonix.signup.operations import Operation
from kryonix.signup.problems import problem_of, problems
from kryonix.signup.schemas import (
    AcceptedAnswer,
    CatalogAnswer,
    CredentialsAnswer,
    CredentialsRequest,
    KeyAnswer,
    NewTenant,
    OperationAnswer,
    OperationsAnswer,
    PlanAnswer,
    PlannedTenant,
    RecordedOperation,
    TenantAnswer,
    TenantChange,
    TenantsPage,
)
from kryonix.signup.sealing import open_sealed
from kryonix.signup.streams import Streams
from kryonix.tenants.admission import admit

tenants = APIRouter(prefix="/v1", tags=["tenants"])
running = APIRouter(prefix="/v1/operations", tags=["operations"])
health = APIRouter(tags=["health"])

_ON_TENANT: dict[str, Any] = {"status_code": 202, "responses": problems(401, 403, 404, 409, 422, 429, 503)}


@tenants.get("/key", responses=problems(401, 422, 429, 503))
def show_key(caller: Reader) -> KeyAnswer:
    """Return the API key that the request has: its name and scope."""
    return KeyAnswer(id=caller.key_id, name=caller.name, scope=caller.scope, expires_at=caller.expires_at)


async def _firing(
    using: Using,
    alerts: Annotated[
        Literal["firing"] | None, Query(description="Only tenants with firing alerts, which need the monitoring.")
    ] = None,
) -> list[str] | None:
    """Return the tenants with firing alerts if the caller asks for them, else None."""
    return None if alerts is None else [each.tenant for each in await using.alerts.get() if each.tenant]


@tenants.get("/tenants", responses=problems(401, 422, 429, 503))
def list_tenants(
    using: Using,
    caller: Reader,
    firing: Annotated[list[str] | None, Depends(_firing)],
    limit: Annotated[int, Query(ge=1, le=200, description="Page size.")] = 50,
    after: Annotated[str, Query(max_length=40, description="The last id of the previous page.")] = "",
    status: Annotated[list[Stage], Query(description="Repeatable. Default: every status but removed.")] = [*STANDING],  # noqa: B006
    search: Annotated[str, Query(max_length=40, description="Part of the id.")] = "",
    sort: Annotated[Sort, Query(description="Order; `changed` begins with the oldest change, `-` reverses.")] = "id",
) -> TenantsPage:
    """List every tenant of the platform, and what manages it. Removed tenants are listed if `status` names them."""
    with using.database.transaction() as connection:
        found, total = fetch_page(
            connection,
            stages=status,
            ids=firing,
            search=search.replace("\0", ""),
            sort=sort,
            after=after.replace("\0", ""),
            limit=limit + 1,
        )
        last = operations.fetch_last(connection, [each.cliente_id for each in found])
    answers = [TenantAnswer.of(each, last.get(each.cliente_id), using.catalog, caller.scope) for each in found]
    page = answers[:limit]
    return TenantsPage(tenants=page, next=page[-1].id if len(found) > limit else None, total=total)


@tenants.get("/tenants/{tenant}", responses=problems(401, 404, 422, 429, 503))
def show_tenant(tenant: Id, using: Using, caller: Reader) -> TenantAnswer:
    """Return a tenant."""
    with using.database.transaction() as connection:
        found = fetch_listed(connection, tenant)
        last = operations.fetch_last(connection, [tenant])
    return TenantAnswer.of(found, last.get(tenant), using.catalog, caller.scope)


@tenants.get("/tenants/{tenant}/operations", responses=problems(401, 404, 422, 429, 503))
def list_operations(
    tenant: Id,
    using: Using,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100, description="Number of operations.")] = 20,
) -> OperationsAnswer:
    """List a tenant's last operations, the newest first."""
    with using.database.transaction() as connection:
        found = operations.fetch_newest(connection, tenant, limit)
        if not found:
            fetch_listed(connection, tenant)
        names = fetch_key_names(connection, {each.key_id for each in found})
    return OperationsAnswer(
        operations=[
            RecordedOperation.of(each, caller.scope, requested_by=names.get(each.key_id or "")) for each in found
        ]
    )


@tenants.get("/tenants/{tenant}/metrics", responses=problems(401, 404, 422, 429, 503))
async def show_metrics(
    tenant: Id,
    using: Using,
    caller: Reader,
    hours: Annotated[Hours, Query(description="How far back: 1, 6 or 24 hours.")] = Hours.SIX,
) -> ChartsAnswer:
    """Return a tenant's depth, rates, wait and connections over the last hours, and its plan's limits."""
    await run_in_threadpool(_fetch_tenant, using.database, tenant)
    return await using.charts.get(tenant, hours)


@tenants.get("/tenants/{tenant}/alerts", responses=problems(401, 404, 422, 429, 503))
async def list_alerts_of_tenant(tenant: Id, using: Using, caller: Reader) -> AlertsAnswer:
    """List a tenant's firing alerts, the most severe first."""
    await run_in_threadpool(_fetch_tenant, using.database, tenant)
    return AlertsAnswer.of(await using.alerts.of_tenant(tenant), caller.scope)


@tenants.get("/alerts", responses=problems(401, 422, 429, 503))
async def list_alerts(using: Using, caller: Reader) -> AlertsAnswer:
    """List the firing alerts of all tenants and of the platform, the most severe first."""
    return AlertsAnswer.of(await using.alerts.get(), caller.scope)


@tenants.get("/catalog", responses=problems(401, 422, 429, 503))
def show_catalog(using: Using, caller: Reader) -> CatalogAnswer:
    """List the available modules and plans."""
    return CatalogAnswer.of(using.catalog)


@tenants.post("/plan", responses=problems(401, 422, 429, 503))
def plan(wanted: PlannedTenant, using: Using, caller: Reader) -> PlanAnswer:
    """Return a tenant's share of its plan's limits. Creates nothing. `id` is optional."""
    named = "id" in wanted.model_fields_set
    topology = admit(new_tenant(wanted.asked(), using.catalog), using.catalog, named=named)
    return PlanAnswer.of(topology)


@tenants.post("/tenants", status_code=202, responses=problems(401, 403, 409, 422, 429, 503))
def create_tenant(wanted: NewTenant, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Create a tenant. When the operation has succeeded, fetch its credentials with this `credentials_key`."""
    return accept(caller, "create", wanted.id, wanted.asked())


@tenants.patch("/tenants/{tenant}", **_ON_TENANT)
def change_tenant(tenant: Id, wanted: TenantChange, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Change a tenant's modules, its plan, or where its alerts go."""
    if wanted.modules is None and wanted.plan is None and "notify" not in wanted.model_fields_set:
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


@tenants.post("/tenants/{tenant}/converge", **_ON_TENANT)
def converge_tenant(tenant: Id, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Apply the tenant's desired state again, and undo changes made by hand. `result` counts the changes."""
    return accept(caller, "converge", tenant)


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
    responses={
        200: {
            "description": "One event per change, with the operation as `data`. The stream ends with the operation, or "
            "with an event `problem` when the key is revoked.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problems(401, 404, 422, 429, 503),
    },
    response_class=StreamingResponse,
    dependencies=[Depends(_place)],
)
async def follow_operation(operation: UUID, using: Using, caller: Reader) -> StreamingResponse:
    """Stream an operation's progress as server-sent events. A key may have 50 open streams per process."""
    first = await run_in_threadpool(_fetch, using.database, operation)
    return StreamingResponse(_events(using.streams, first, caller), media_type="text/event-stream")


@running.post(
    "/{operation}/credentials",
    responses=problems(401, 403, 404, 409, 410, 422, 429, 503),
    response_model_exclude_none=True,  # most tenants have no certificate
)
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


def _fetch_tenant(database: Database, tenant: str) -> Listed:
    with database.transaction() as connection:
        return fetch_listed(connection, tenant)


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


class Health(BaseModel):
    """The liveness answer."""

    status: str


@health.get("/healthz")
async def healthz() -> Health:
    """Return ok while the process runs. Uses neither the database nor a thread."""
    return Health(status="ok")


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


@health.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(using: Using) -> Response:
    """Return metrics in Prometheus' text format."""
    return Response(using.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _with_head(*routers: APIRouter) -> tuple[APIRouter, ...]:
    """Answer HEAD wherever GET is answered, but for streams: they end with the operation."""
    for router in routers:
        for route in [each for each in router.routes if isinstance(each, APIRoute) and "GET" in (each.methods or ())]:
            if route.response_class is not StreamingResponse:
                path = route.path.removeprefix(router.prefix)
                router.add_api_route(path, route.endpoint, methods=["HEAD"], include_in_schema=False)
    return routers


ROUTERS: Final = _with_head(tenants, running, health)
