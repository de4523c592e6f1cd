"""Request bodies and answers of the HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kryonix.signup.keys import Scope
from kryonix.signup.listing import Listed
from kryonix.signup.operations import Operation
from kryonix.signup.problems import for_callers
from kryonix.tenants.admission import as_sold
from kryonix.tenants.errors import InvalidTenant
from kryonix.tenants.specs import tenant_of
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import TENANT_ID, Names
from kryonix.topology.notify import Notify
from kryonix.topology.tenants import ID_RULE

TENANT_ID_PATTERN = f"^{TENANT_ID}$"
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"  # safe in a database row and in a log line
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=_PRINTABLE)]
Modules = Annotated[list[Name], Field(min_length=1, max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    def asked(self) -> dict[str, Any]:
        """Return the request as stored in the operation's row."""
        return self.model_dump(exclude_none=True)


class NewTenant(_Body):
    """A new tenant."""

    id: str = Field(pattern=TENANT_ID_PATTERN, description=ID_RULE, examples=["acme"])
    modules: Modules = Field(description="The tenant's business modules", examples=[["crm"]])
    plan: Name = Field(description="The plan; it sets the limits", examples=["basic"])
    cell: Name | None = Field(None, description="The cell (broker); default: one with room")
    auth: Literal["password", "certificate"] | None = Field(
        None, description="How its applications log in; default: password. A certificate needs a platform with TLS"
    )
    notify: Notify | None = Field(None, description="Where the tenant's alerts go, besides the operators")


class PlannedTenant(NewTenant):
    """A tenant to plan. Its id does not change what it needs."""

    id: str = Field("unnamed", pattern=TENANT_ID_PATTERN, description=ID_RULE, examples=["acme"])


class TenantChange(_Body):
    """New modules, a new plan, or where alerts go. An omitted field stays as it is."""

    modules: Modules | None = Field(None, description="The complete new list of modules", examples=[["crm"]])
    plan: Name | None = Field(None, description="The new plan", examples=["pro"])
    allow_delete: list[Annotated[str, Field(max_length=255, pattern=_PRINTABLE)]] | None = Field(
        None, max_length=500, description="Queues that may be deleted with their messages"
    )
    notify: Notify | None = Field(None, description="The complete new addresses; null sends no more notifications")

    def asked(self) -> dict[str, Any]:
        """Return the request as stored; `notify` is in it if the caller gave it, null too."""
        given = {"notify": None} if "notify" in self.model_fields_set else {}
        return {**given, **super().asked()}


class CredentialsRequest(_Body):
    """The key that opens the credentials."""

    credentials_key: str = Field(min_length=1, max_length=100, description="From the operation's first answer")


class Capacity(BaseModel):
    """Usage of one limit of the plan."""

    used: int
    allowed: int


class NotifyAnswer(BaseModel):
    """Where a tenant's alerts go. Of a webhook only scheme and host are shown: the rest may hold a token."""

    webhook: str | None
    email: list[str]


class TenantAnswer(BaseModel):
    """A tenant's desired state. If `converged` is false, an operation is in progress or has failed."""

    id: str
    modules: list[str]
    plan: str
    status: str = Field(description="active, suspended, offboarding, removing or removed")
    cell: str | None = Field(description="Null if a config file declares the tenant")
    managed_by: str = Field(description="own stack, or config file: then this service can't change the tenant")
    vhost: str
    username: str = Field(description="The current user; its password is delivered once, by the operation")
    converged: bool
    queues: Capacity | None = Field(description="Null if the catalog no longer has the tenant's modules or plan")
    exchanges: Capacity | None
    retiring_until: datetime | None = Field(description="Until then the previous credentials work")
    remove_after: datetime | None = Field(description="When the offboarded tenant will be removed")
    updated_at: datetime | None = Field(description="When the desired state last changed")
    notify: NotifyAnswer | None = Field(description="Null if only operators get the tenant's alerts")
    operation: UUID | None = Field(description="The operation in progress")
    problem: dict[str, Any] | None = Field(description="Why the last operation or attempt failed (problem details)")

    @classmethod
    def of(cls, state: Listed, last: Operation | None, catalog: Catalog, scope: Scope) -> TenantAnswer:
        """Build the answer from a tenant's state and its last operation, if any."""
        names = Names(state.cliente_id)
        capacity: dict[str, Any] = {"queues": None, "exchanges": None}
        with suppress(InvalidTenant):
            capacity = _capacity(as_sold(tenant_of(state), catalog))
        return cls(
            **capacity,
            id=state.cliente_id,
            modules=list(state.modules),
            plan=state.plan,
            status=state.stage,
            cell=None if state.declared else state.cell,
            managed_by=state.managed_by,
            vhost=names.vhost,
            username=names.user_of(state.credentials_generation),
            converged=state.converged,
            retiring_until=state.retiring_until,
            remove_after=state.remove_after,
            updated_at=state.updated_at,
            notify=None if state.notify is None else NotifyAnswer(**state.notify.masked()),
            operation=None if last is None or last.ended else last.id,
            problem=None if last is None or last.status == "succeeded" else _problem(last, scope),
        )


class TenantsPage(BaseModel):
    """A page of tenants."""

    tenants: list[TenantAnswer]
    next: str | None = Field(description="`after` of the next page; null on the last page")
    total: int = Field(description="Number of tenants on all pages")


class Progress(BaseModel):
    """Progress of a run in broker objects (exchanges, queues, bindings, policies)."""

    done: int
    total: int = Field(description="0 if unknown")
    doing: str


class OperationAnswer(BaseModel):
    """An operation and its progress."""

    id: UUID
    tenant: str
    kind: str
    request: dict[str, Any] = Field(description="What was requested, such as the new plan")
    status: str = Field(description="queued, running, succeeded or failed")
    attempts: int
    progress: Progress
    problem: dict[str, Any] | None = Field(description="Why the last attempt failed (problem details)")
    result: dict[str, Any] | None
    credentials: str | None = Field(
        description="pending, ready, delivered or expired; null if the operation creates none"
    )
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, operation: Operation, scope: Scope, **more: Any) -> Self:
        """Build the answer for a caller with a scope."""
        progress = Progress(done=operation.objects_done, total=operation.objects_total, doing=operation.doing)
        known = {name: getattr(operation, name) for name in OperationAnswer.model_fields if name != "progress"}
        known |= {"request": _shown_request(operation.request), "progress": progress}
        return cls(**{**known, "problem": _problem(operation, scope)}, **more)


class RecordedOperation(OperationAnswer):
    """An operation in a tenant's history."""

    requested_by: str | None = Field(description="Name of the API key; null for the service's own operations")


class OperationsAnswer(BaseModel):
    """A tenant's last operations, the newest first."""

    operations: list[RecordedOperation]


class KeyAnswer(BaseModel):
    """The API key of the request."""

    id: str
    name: str
    scope: Scope
    expires_at: datetime | None


class AcceptedAnswer(OperationAnswer):
    """An accepted operation."""

    credentials_key: str | None = Field(
        None, description="Opens the credentials. Keep it: the service does not store it"
    )


class CredentialsAnswer(BaseModel):
    """The credentials of the tenant's applications. Delivered once."""

    vhost: str
    username: str
    password: str
    amqp_uri: str
    client_certificate: str | None = Field(
        None, description="PEM, for a tenant that logs in with a certificate; its password is that of the metrics' user"
    )
    client_key: str | None = Field(None, description="The certificate's private key, PEM")
    amqp_addresses: list[str] | None = Field(
        None, description="HOST:PORT of each of the broker's nodes; `amqp_uri` names the first"
    )
    ca_certificate: str | None = Field(None, description="PEM, the CAs to trust, where `amqp_uri` is `amqps`")


class ModuleAnswer(BaseModel):
    """An available module."""

    name: str
    actions: int


class PlanChoice(BaseModel):
    """An available plan."""

    name: str
    max_queues: int
    max_exchanges: int
    max_connections: int
    max_channels: int


class CatalogAnswer(BaseModel):
    """The available modules and plans."""

    modules: list[ModuleAnswer]
    plans: list[PlanChoice]

    @classmethod
    def of(cls, catalog: Catalog) -> CatalogAnswer:
        return cls(
            modules=[ModuleAnswer(name=name, actions=len(module.actions)) for name, module in catalog.modules.items()],
            plans=[PlanChoice(name=name, **plan.limits.model_dump()) for name, plan in catalog.plans.items()],
        )


class PlanAnswer(BaseModel):
    """A tenant's usage of its plan."""

    queues: Capacity
    exchanges: Capacity
    queues_by_module: dict[str, int]
    limits: dict[str, int | None] = Field(description="All limits of the plan")

    @classmethod
    def of(cls, topology: Topology) -> PlanAnswer:
        by_module = use(topology).queues_by_module
        return cls(**_capacity(topology), queues_by_module=by_module, limits=topology.limits.model_dump())


def _capacity(topology: Topology) -> dict[str, Any]:
    used, limits = use(topology), topology.limits
    return {
        "queues": Capacity(used=used.queues, allowed=limits.max_queues),
        "exchanges": Capacity(used=used.exchanges, allowed=limits.max_exchanges),
    }


def _shown_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request without what a webhook's path or query may hold."""
    if "notify" not in request:
        return dict(request)
    notify = Notify.stored(request["notify"])
    return {**request, "notify": notify and notify.masked()}


def _problem(operation: Operation, scope: Scope) -> Mapping[str, Any] | None:
    """Return the operation's problem: in full for an administrator, without internal addresses for others."""
    if operation.problem is None or scope == "admin":
        return operation.problem
    return for_callers(operation.problem)
