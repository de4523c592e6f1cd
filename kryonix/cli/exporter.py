"""`kryonix exporter`: serve figures of tenants that the broker's own metrics lack."""

from __future__ import annotations

import logging
import signal
from functools import partial
from threading import Event
from typing import Annotated, Final

import typer
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from kryonix.cli.options import PlatformOptions, command
from kryonix.cli.output.console import err
from kryonix.cli.site import Site, open_site
from kryonix.engines.engine import StackSpec
from kryonix.monitoring.endpoint import Endpoint
from kryonix.monitoring.exporter import Exporter, Read
from kryonix.monitoring.figures import connection_figures, registry_figures
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.topology.addresses import host_port

_LONGEST_S: Final = 3_600.0

app = typer.Typer()


@command(app)
def exporter(
    platform: PlatformOptions,
    host: Annotated[str, typer.Option(help="Address to serve the metrics on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the metrics; 0 picks a free one.")] = 9420,
    interval: Annotated[float, typer.Option(min=1, max=_LONGEST_S, help="Seconds between readings.")] = 15.0,
) -> None:
    """Serve Prometheus metrics of tenants: plan limits, state, connections and channels.

    A figure that cannot be read is absent, never 0.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    site = open_site(platform)
    sources: dict[str, Read] = {"registry": partial(registry_figures, site.registry_dsn, site.catalog)}
    sources |= {f"cell {name}": _CellReader(site, cell.stack).read for name, cell in site.cells.cells.items()}
    registry, collected = CollectorRegistry(), Exporter(sources, interval)
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


class _CellReader:
    """Reads a cell's broker as its user for metrics, which can change nothing."""

    def __init__(self, site: Site, stack: str) -> None:
        self._site, self._stack = site, stack
        self._broker: Broker | None = None

    def read(self) -> list[Metric]:
        """Return the cell's figures. After a failure its outputs are read again: they may have changed."""
        if self._broker is None:
            outputs = self._site.engine.outputs(StackSpec(name=self._stack))
            login = {
                "admin_username": outputs.get("metrics_username"),
                "admin_password": outputs.get("metrics_password"),
            }
            self._broker = Broker.of({**outputs, **login})
        try:
            return connection_figures(self._broker)
        except BrokerUnavailable:
            self._broker.close()
            self._broker = None
            raise
