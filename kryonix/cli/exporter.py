"""`kryonix exporter`: serve figures of tenants that the broker's own metrics lack."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final, TypeVar

import typer
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from kryonix.certificates.listeners import Listener, listener_of, listeners_of
from kryonix.cli.options import PlatformOptions, command
from kryonix.cli.output.console import err
from kryonix.cli.site import open_site
from kryonix.engines.engine import StackSpec
from kryonix.engines.platform_file import described_platforms
from kryonix.errors import InvalidChoice
from kryonix.fleet.members import registered_tenants
from kryonix.monitoring.alertmanager import Alertmanager
from kryonix.monitoring.backups import backup_figures
from kryonix.monitoring.certificates import certificate_figures
from kryonix.monitoring.drift import DriftReader, Seen, read_seen
from kryonix.monitoring.endpoint import Endpoint
from kryonix.monitoring.exporter import Exporter, Read
from kryonix.monitoring.figures import connection_figures, registry_figures
from kryonix.monitoring.routing import routing_figures
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.signup.figures import operation_figures
from kryonix.topology.addresses import host_port
from kryonix.topology.catalog import Catalog
from kryonix.topology.errors import shown

_LONGEST_S: Final = 3_600.0

R = TypeVar("R")
Outputs = Callable[[], Mapping[str, Any]]

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the exporter reads: the registry, and each cell by name with a function that returns its outputs.

    `operations_dsn` is a login that reads the signup service's operations. `alone` is True if the registry has no other
    cell.
    """

    registry_dsn: str = field(repr=False)
    operations_dsn: str = field(repr=False)
    cells: Mapping[str, Outputs]
    alone: bool
    catalog: Catalog


@command(app)
def exporter(
    platform: PlatformOptions,
    host: Annotated[str, typer.Option(help="Address to serve the metrics on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the metrics; 0 picks a free one.")] = 9420,
    interval: Annotated[float, typer.Option(min=1, max=_LONGEST_S, help="Seconds between readings.")] = 15.0,
    slow_interval: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds between readings of drift and of certificates.")
    ] = 900.0,
    certificate: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Address whose certificate's expiry is served, https or amqps; repeatable."),
    ] = None,
    alertmanager: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Alertmanager to reload after a change of its file."),
    ] = None,
    alertmanager_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Alertmanager's file to write, from base.yml beside it and the tenants."),
    ] = None,
) -> None:
    """Serve Prometheus metrics of tenants: limits, use, operations, backups, routing, drift and certificates.

    A figure that cannot be read is absent, never 0. With --alertmanager, also keep Alertmanager's configuration equal
    to what the tenants' entries say of notifications.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    access = _of_stack(platform)
    sources = _sources(access)
    if alertmanager is not None and alertmanager_config is not None:
        tenants = partial(registered_tenants, access.registry_dsn)
        sources["alertmanager"] = Alertmanager(alertmanager, alertmanager_config, tenants).read
    elif alertmanager is not None or alertmanager_config is not None:
        raise InvalidChoice("give --alertmanager and --alertmanager-config together, or neither")
    rare = _rare(access)
    if certificate:
        rare["certificates"] = partial(certificate_figures, _listeners(certificate))
    registry, collected = CollectorRegistry(), Exporter(sources, interval, rare, slow_interval)
    registry.register(collected)
    ending = Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    endpoint = Endpoint(registry, host, port, option="--port")
    try:
        collected.start(ending)
        err.print(f"serving http://{host_port(host, endpoint.port)}/metrics", soft_wrap=True, markup=False)
        ending.wait()
    finally:
        endpoint.close()


def _of_stack(platform: PlatformOptions) -> Access:
    """Return what a platform's stack gives access to."""
    site = open_site(platform)
    described = described_platforms()  # in a container, the other platforms can't be read
    cells = {
        name: partial(site.engine.outputs, StackSpec(name=cell.stack))
        for name, cell in site.cells.cells.items()
        if not described or cell.stack in described
    }
    # A login of the exporter's own reads both.
    operations_dsn = str(site.outputs.get("signup_dsn") or site.registry_dsn)
    return Access(
        registry_dsn=site.registry_dsn,
        operations_dsn=operations_dsn,
        cells=cells,
        alone=len(site.cells.cells) == 1,
        catalog=site.catalog,
    )


def _sources(access: Access) -> dict[str, Read]:
    """Return what is read at every interval."""
    sources: dict[str, Read] = {"registry": partial(registry_figures, access.registry_dsn, access.catalog)}
    sources["backups"] = partial(backup_figures, access.registry_dsn)
    sources["routing"] = partial(routing_figures, access.registry_dsn)
    sources["operations"] = partial(operation_figures, access.operations_dsn)
    for name, outputs in access.cells.items():
        sources[f"cell {name}"] = _CellReader(outputs).connections
    return sources


def _rare(access: Access) -> dict[str, Read]:
    """Return what is read rarely: it takes long, or changes slowly."""
    sources: dict[str, Read] = {}
    tenants = partial(registered_tenants, access.registry_dsn)
    for name, outputs in access.cells.items():
        reader = DriftReader(name, tenants, _CellReader(outputs).seen, access.catalog, alone=access.alone)
        sources[f"drift {name}"] = reader.read
        sources[f"certificates {name}"] = partial(_certificates, outputs)
    return sources


def _listeners(urls: Sequence[str]) -> dict[str, Listener]:
    """Return the listeners of URLs. Raises InvalidChoice for one without TLS."""
    found: dict[str, Listener] = {}
    for url in urls:
        if not (listener := listener_of(url)):
            raise InvalidChoice(f"--certificate: {shown(url)} is not a URL such as https://messaging.example.com")
        found[str(listener)] = listener
    return found


def _certificates(outputs: Outputs) -> list[Metric]:
    return certificate_figures(listeners_of(outputs()))


class _CellReader:
    """Reads a cell's broker as its user for metrics, which can change nothing."""

    def __init__(self, outputs: Outputs) -> None:
        self._read_outputs = outputs
        self._broker: Broker | None = None
        self._outputs: Mapping[str, Any] = {}

    def connections(self) -> list[Metric]:
        """Return the cell's connections and channels."""
        return self._ask(connection_figures)

    def seen(self) -> Seen:
        """Return the cell's objects."""
        return self._ask(lambda broker: read_seen(self._outputs, broker))

    def _ask(self, figures: Callable[[Broker], R]) -> R:
        """Return what is read of the broker. After a failure its outputs are read again: they may have changed."""
        if self._broker is None:
            outputs = self._outputs = self._read_outputs()
            login = {
                "admin_username": outputs.get("metrics_username"),
                "admin_password": outputs.get("metrics_password"),
            }
            self._broker = Broker.of({**outputs, **login})
        try:
            return figures(self._broker)
        except BrokerUnavailable:
            self._broker.close()
            self._broker = None
            raise
