"""Run the checks of one cell and its tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kryonix.checks.certificates import certificate_findings
from kryonix.checks.compare import Comparison, delete_command, registry_findings
from kryonix.checks.declared import Declared
from kryonix.checks.findings import MESSAGE_CHECKS, Finding, complete
from kryonix.checks.live import Live, alarms, measured_vhosts, read_live
from kryonix.checks.monitored import read_monitored, unseen
from kryonix.checks.trials import MessageTrials, try_isolation
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rows import TenantRow
from kryonix.topology.catalog import Catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import tenant_of_vhost

_AT_ONCE: Final = 8
_UNREAD: Final = "the registry does not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """The registry's tenants by id: their rows and their desired states."""

    rows: Mapping[str, TenantRow]
    states: Mapping[str, DesiredState]


def check_cell(
    outputs: Mapping[str, Any],
    members: Iterable[Declared],
    registered: Registered | None,
    catalog: Catalog,
    tenant: str | None = None,
) -> list[Finding]:
    """Return the findings on a cell's broker and its tenants, or on one: the others then only help to try isolation."""
    ring = sorted(members, key=lambda each: each.tenant.id)
    tenants = [each for each in ring if tenant in (None, each.tenant.id)]
    broker = Broker.of(outputs)
    try:
        with broker:
            alarm = alarms(broker)
            live = read_live(broker, *(each.tenant.names.vhost for each in tenants if tenant))
    except BrokerUnavailable as error:
        found = [Finding(check="broker", outcome="unreachable", why=str(error))]
        rest = [complete([], tenant=each.tenant.id, blocked="the broker does not answer") for each in tenants]
        return found + [finding for findings in rest for finding in findings]
    platform = [Finding(check="broker", outcome="pass")]
    if alarm:
        remedy = f"Give the broker memory or disk space, or let consumers catch up: see {broker.url}"
        platform.append(Finding(check="alarms", outcome="fail", why=alarm, remedy=remedy))
    measured: set[str] | None = None
    try:
        measured = measured_vhosts(outputs)
    except BrokerUnavailable as error:
        platform.append(Finding(check="metrics", outcome="unreachable", why=str(error)))
    monitored, of_prometheus = read_monitored(outputs)
    platform += [*of_prometheus, *certificate_findings(outputs)]
    if tenant is None and registered is not None:
        platform += _strange_vhosts(tenants, live, broker, registered)
    else:
        why = "only one tenant is checked" if registered is not None else _UNREAD
        platform.append(Finding(check="strange vhosts", outcome="not tried", why=why))
    checked = _Checked(outputs, ring, broker, live, catalog, registered, measured, monitored, alarm)
    return platform + [finding for findings in asyncio.run(checked.all(tenants)) for finding in findings]


def _strange_vhosts(
    tenants: Iterable[Declared], live: Live, broker: Broker, registered: Registered
) -> Iterator[Finding]:
    """Yield vhosts named like a tenant's that no stack declares and that no row of the registry has."""
    known = {each.tenant.names.vhost for each in tenants}
    known |= {row.vhost for row in registered.rows.values() if row.status != "removido"}
    for vhost in sorted(live.vhosts):
        if tenant_of_vhost(vhost) and vhost not in known:
            request = delete_command(broker.username, broker.url, ("vhosts", vhost))
            why = f"the vhost {vhost} belongs to no tenant"
            yield Finding(check="strange vhosts", outcome="fail", why=why, remedy=f"Ask its owner, then: {request}")


@dataclass(frozen=True, slots=True)
class _Checked:
    """One cell's tenants by id, and what was read of its broker."""

    outputs: Mapping[str, Any]
    ring: Sequence[Declared]
    broker: Broker
    live: Live
    catalog: Catalog
    registered: Registered | None
    measured: Collection[str] | None
    monitored: set[str] | None
    alarm: str

    async def all(self, tenants: Iterable[Declared]) -> list[list[Finding]]:
        """Return each tenant's findings; a few tenants are tried at a time."""
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(declared: Declared) -> list[Finding]:
            async with free:
                return await self._tenant(declared)

        return await asyncio.gather(*map(one, tenants))

    async def _tenant(self, declared: Declared) -> list[Finding]:
        tenant = declared.tenant
        try:
            topology = expand(tenant, self.catalog)
        except KeyError as error:
            remedy = "Take it back into the catalog, or change the tenant"
            why = f"the catalog has no {error}"
            return [Finding(check="vhost", outcome="fail", tenant=tenant.id, why=why, remedy=remedy)]
        if self.registered is None:
            found = [Finding(check="registry", outcome="not tried", tenant=tenant.id, why=_UNREAD)]
        else:
            row, state = self.registered.rows.get(tenant.id), self.registered.states.get(tenant.id)
            found = [*registry_findings(declared, row, state)]
        comparison = Comparison(declared, topology, self.live, self.broker.username, self.broker.url)
        found += comparison.findings()
        if topology.vhost not in self.live.vhosts:
            return complete(found, tenant=tenant.id, blocked="the vhost is missing")
        found += [*self._metrics(topology), *await self._messages(comparison), *await self._isolation(declared)]
        return complete(found, tenant=tenant.id)

    def _metrics(self, topology: Topology) -> Iterator[Finding]:
        tenant = topology.tenant.id
        if self.measured is None:
            yield Finding(check="metrics", outcome="not tried", tenant=tenant, why="the metrics do not answer")
        elif topology.vhost not in self.measured:
            why = f"the metrics do not report the vhost {topology.vhost} as running"
            remedy = f"rabbitmqctl restart_vhost -p {topology.vhost}"
            yield Finding(check="metrics", outcome="fail", tenant=tenant, why=why, remedy=remedy)
        yield from unseen(tenant, self.monitored, str(self.outputs.get("prometheus_url")))

    async def _messages(self, comparison: Comparison) -> list[Finding]:
        tenant = comparison.declared.tenant.id
        if self.alarm:
            why = "an alarm stops all messages"
            return [Finding(check=name, outcome="not tried", tenant=tenant, why=why) for name in MESSAGE_CHECKS]
        mend, retry = comparison.declared.mend, self.catalog.retry
        return await MessageTrials(comparison.topology, comparison.trustworthy(), retry, mend).run(self._access)

    async def _isolation(self, declared: Declared) -> list[Finding]:
        other = next((each for each in self.ring if each.tenant.id > declared.tenant.id), self.ring[0])
        why = "" if declared.password else "its stack's outputs have no password"
        if other.tenant.id == declared.tenant.id:
            why = "there is no other tenant"
        if why:
            return [Finding(check="isolation", outcome="not tried", tenant=declared.tenant.id, why=why)]
        vhost = other.tenant.names.vhost
        remedies = {
            entry["user"]: delete_command(self.broker.username, self.broker.url, ("permissions", vhost, entry["user"]))
            for entry in self.live.of_kind("permissions", vhost)
            if entry["user"] in declared.users
        }
        return await try_isolation(self._access, declared, other, remedies)

    @property
    def _access(self) -> BrokerAccess:
        return BrokerAccess.of(self.outputs)
