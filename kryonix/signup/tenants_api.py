"""Routes of tenants, plans and the catalog."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from kryonix.registry.desired_states import fetch_desired_state, fetch_desired_states
from kryonix.signup import operations
from kryonix.signup.auth import Admin, Caller, Reader, Writer
from kryonix.signup.errors import NothingAsked
from kryonix.signup.intake import new_tenant
from kryonix.signup.operations import Kind
from kryonix.signup.problems import problems
from kryonix.signup.schemas import (
    TENANT_ID_PATTERN,
    AcceptedAnswer,
    CatalogAnswer,
    NewTenant,
    PlanAnswer,
    TenantAnswer,
    TenantChange,
    TenantsPage,
)
from kryonix.signup.services import Services, services
from kryonix.tenants.admission import Need, admit
from kryonix.tenants.errors import UnknownTenant
from kryonix.topology.capacity import use

router = APIRouter(prefix="/v1", tags=["tenants"])

Id = Annotated[str, Path(pattern=TENANT_ID_PATTERN, description="The tenant's id.", examples=["acme"])]
Using = Annotated[Services, Depends(services)]
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
        return AcceptedAnswer.accepted(accepted.operation, accepted.credentials_key, caller.scope)


Accept = Annotated[_Accept, Depends(_Accept)]


@router.get("/tenants", responses=problems(401, 422, 429, 503))
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


@router.get("/tenants/{tenant}", responses=problems(401, 404, 422, 429, 503))
def show_tenant(tenant: Id, using: Using, caller: Reader) -> TenantAnswer:
    """Return a tenant."""
    with using.database.transaction() as connection:
        state = fetch_desired_state(connection, tenant)
        last = operations.fetch_last(connection, [tenant])
    if state is None:
        raise UnknownTenant(tenant)
    return TenantAnswer.of(state, last.get(tenant), using.catalog, caller.scope)


@router.get("/catalog", responses=problems(401, 422, 429, 503))
def show_catalog(using: Using, caller: Reader) -> CatalogAnswer:
    """List the available modules and plans."""
    return CatalogAnswer.of(using.catalog)


@router.post("/plan", responses=problems(401, 422, 429, 503))
def plan(wanted: NewTenant, using: Using, caller: Reader) -> PlanAnswer:
    """Return a tenant's share of its plan's limits. Creates nothing."""
    topology = admit(new_tenant(wanted.asked(), using.catalog), using.catalog)
    return PlanAnswer.of(Need(use=use(topology), limits=topology.limits))


@router.post("/tenants", **_ACCEPTED, responses=problems(401, 403, 409, 422, 429, 503))
def create_tenant(wanted: NewTenant, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Create a tenant. When the operation has succeeded, fetch its credentials with this `credentials_key`."""
    return accept(caller, "create", wanted.id, wanted.asked())


@router.patch("/tenants/{tenant}", **_ON_TENANT)
def change_tenant(tenant: Id, wanted: TenantChange, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Change a tenant's modules, its plan, or both."""
    if wanted.modules is None and wanted.plan is None:
        raise NothingAsked
    return accept(caller, "change", tenant, wanted.asked())


@router.delete("/tenants/{tenant}", **_ON_TENANT)
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


@router.post("/tenants/{tenant}/suspend", **_ON_TENANT)
def suspend_tenant(tenant: Id, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Block the tenant's connections and close open ones. Nothing is deleted."""
    return accept(caller, "suspend", tenant)


@router.post("/tenants/{tenant}/resume", **_ON_TENANT)
def resume_tenant(tenant: Id, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Undo a suspension, or an offboarding within its grace period."""
    return accept(caller, "resume", tenant)


@router.post("/tenants/{tenant}/rotate", **_ON_TENANT)
def rotate_credentials(tenant: Id, caller: Writer, accept: Accept) -> AcceptedAnswer:
    """Create new credentials. The previous ones keep working for the configured overlap."""
    return accept(caller, "rotate", tenant)
