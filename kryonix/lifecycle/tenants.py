"""What becomes of a customer: created, changed, suspended, resumed, given new credentials, offboarded, removed.

Each operation writes first what the tenant is to be, then brings the world there. So one that was cut off at any
point, `kill -9` included, is finished by running it again, or by `converge`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kryonix.lifecycle.credentials import Credentials
from kryonix.lifecycle.deployer import Deployer, ignore
from kryonix.local.events import OnEvent, Summary
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.capacity import Use
from kryonix.topology.catalog import Catalog, Limits
from kryonix.topology.cells import Cells
from kryonix.topology.tenants import Tenant

__all__ = ["Credentials", "Need", "TenantLifecycle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a tenant would take, beside what its plan allows."""

    use: Use
    limits: Limits


class TenantLifecycle:
    """The operations on tenants that have a stack of their own.

    All of them block, may run from any thread, and are safe to run again. Refusals are raised before anything changes,
    as errors of `kryonix.lifecycle.errors`; TenantBusy where another operation on the same tenant is under way, in any
    process. What fails later carries its `exit_status`: 3 for a service that may be back soon.
    """

    def __init__(
        self,
        registry_dsn: str,
        deployer: Deployer,
        cells: Cells,
        catalog: Catalog,
        *,
        overlap: timedelta = timedelta(hours=24),
        grace: timedelta = timedelta(days=30),
        deletion_protection: bool = True,
    ) -> None:
        raise NotImplementedError

    def plan(self, tenant: Tenant) -> Need:
        """What a tenant would take; asks nobody. Raises DoesNotFit or InvalidTenant."""
        raise NotImplementedError

    def create(self, tenant: Tenant, on_event: OnEvent = ignore, *, again: bool = False) -> Credentials:
        """Make a new tenant and return its credentials.

        A creation that was cut off before it had finished is gone on with. One that had finished is TenantExists,
        unless `again` says that the caller asked before and lost the answer: then the same credentials are returned.
        """
        raise NotImplementedError

    def change(
        self,
        tenant_id: str,
        *,
        modules: Sequence[str] | None = None,
        plan: str | None = None,
        allow_delete: Collection[str] = (),
        on_event: OnEvent = ignore,
    ) -> None:
        """Give a tenant other modules, another plan, or both; None leaves as it is.

        Raises DoesNotFit, and WouldLoseMessages for queues that hold messages and are not named in `allow_delete`.
        """
        raise NotImplementedError

    def suspend(self, tenant_id: str, on_event: OnEvent = ignore) -> None:
        """Let no application of the tenant connect, and cut off those that are. Nothing is deleted."""
        raise NotImplementedError

    def resume(self, tenant_id: str, on_event: OnEvent = ignore) -> None:
        """Undo `suspend`, or `offboard` while its grace has not passed."""
        raise NotImplementedError

    def rotate(
        self,
        tenant_id: str,
        on_event: OnEvent = ignore,
        *,
        from_generation: int | None = None,
        overlap: timedelta | None = None,
    ) -> Credentials:
        """Make a new user and return its credentials; the one before keeps working for the overlap.

        A rotation that was cut off before it had finished is gone on with. `from_generation` makes a retry safe after
        that too: where the tenant's credentials are of the next generation already, they are returned as they are.
        A rotation while the one before overlaps still ends that one's overlap at once.
        """
        raise NotImplementedError

    def offboard(self, tenant_id: str, on_event: OnEvent = ignore) -> datetime:
        """Keep a final export, suspend, and return the moment from which `remove` may run. `resume` undoes it."""
        raise NotImplementedError

    def remove(self, tenant_id: str, on_event: OnEvent = ignore, *, force: bool = False) -> None:
        """Remove an offboarded tenant once its grace has passed, or at once with `force`. Its history stays."""
        raise NotImplementedError

    def due(self) -> list[str]:
        """Ids of tenants that `settle` has something to do for: an overlap, or a grace, that has passed."""
        raise NotImplementedError

    def settle(self, tenant_id: str, on_event: OnEvent = ignore) -> None:
        """Do what is due: drop a retired user, remove an offboarded tenant. Nothing where nothing is."""
        raise NotImplementedError

    def converge(self, tenant_id: str, on_event: OnEvent = ignore) -> Summary:
        """Bring the world to the tenant's row as it is."""
        raise NotImplementedError

    def states(self) -> list[DesiredState]:
        """Every tenant's desired state, by id; those of removed ones too."""
        raise NotImplementedError

    def state(self, tenant_id: str) -> DesiredState:
        """One tenant's desired state. Raises UnknownTenant."""
        raise NotImplementedError
