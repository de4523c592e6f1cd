"""What `kryonix top` keeps while a cell, the registry or Prometheus does not answer."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from kryonix.cli import top
from kryonix.cli.output.top import Reading
from kryonix.errors import InvalidChoice
from kryonix.monitoring.prometheus import PrometheusUnavailable
from kryonix.monitoring.traffic import Traffic
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.errors import RegistryError
from kryonix.topology.catalog import default_catalog


class World:
    """Two cells, `eu` and `us`, with a tenant each; anything can be away."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.outputs_read: list[str] = []
        self.depths = {"eu": 1, "us": 2}
        self.now = 0.0

    def outputs(self, spec: Any) -> dict[str, Any]:
        self.outputs_read.append(spec.name)
        return {"cell": spec.name}

    def traffic(self, broker: Any) -> dict[str, Traffic]:
        if broker.cell in self.away:
            raise BrokerUnavailable(f"the broker of {broker.cell} does not answer")
        return {f"of-{broker.cell}": Traffic(depth=self.depths[broker.cell], ready=1)}

    def tenants(self, dsn: str) -> list[DesiredState]:
        if "registry" in self.away:
            raise RegistryError("the registry does not answer")
        return [
            DesiredState(cliente_id=f"of-{cell}", modules=("crm",), plan="basic", cell=cell) for cell in self.depths
        ]

    def waits(self, prometheus: str) -> dict[str, float]:
        if "prometheus" in self.away:
            raise PrometheusUnavailable("Prometheus does not answer")
        return {f"of-{prometheus}": 7.0}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    broker = SimpleNamespace(
        of=lambda outputs, **_: SimpleNamespace(cell=outputs["cell"], close=lambda: None)  # the class, and one broker
    )
    monkeypatch.setattr(top, "Broker", broker)
    monkeypatch.setattr(top, "Prometheus", SimpleNamespace(of=lambda outputs: outputs["cell"]))
    monkeypatch.setattr(top, "read_traffic", made.traffic)
    monkeypatch.setattr(top, "registered_tenants", made.tenants)
    monkeypatch.setattr(top, "waits_of", made.waits)
    monkeypatch.setattr(top, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def reader(world: World, only: str | None = None) -> Any:
    cells = {name: SimpleNamespace(stack=name) for name in world.depths}
    engine = SimpleNamespace(outputs=world.outputs)
    site: Any = SimpleNamespace(
        cells=SimpleNamespace(cells=cells), engine=engine, registry_dsn="", catalog=default_catalog()
    )
    return top._Reader(site, only)


def seen(reading: Reading) -> dict[str, tuple[int | None, bool]]:
    """Return the depth of each tenant, and whether it is an old one."""
    return {row.tenant: (None if row.traffic is None else row.traffic.depth, row.old) for row in reading.rows}


def test_all_cells_are_read_and_their_outputs_once(world: World) -> None:
    reading = reader(world)
    first, second = reading.read(), reading.read()
    assert seen(first) == seen(second) == {"of-eu": (1, False), "of-us": (2, False)}
    assert {row.tenant: row.wait_s for row in first.rows} == {"of-eu": 7.0, "of-us": 7.0}
    assert sorted(world.outputs_read) == ["eu", "us"]
    assert not first.problems


def test_a_cell_that_is_away_keeps_its_last_figures_and_comes_back(world: World) -> None:
    reading = reader(world)
    reading.read()
    world.away, world.depths = {"us"}, {"eu": 5, "us": 9}
    while_away = reading.read()
    assert seen(while_away) == {"of-eu": (5, False), "of-us": (2, True)}
    assert while_away.problems == {"cell us": "the broker of us does not answer"}
    world.away = set()
    assert seen(reading.read())["of-us"] == (9, False)
    assert world.outputs_read.count("us") == 2, "its address may have changed"


def test_a_cell_never_read_has_no_figures(world: World) -> None:
    world.away = {"us"}
    reading = reader(world).read()
    assert seen(reading)["of-us"] == (None, False)
    assert reading.cells["us"] is None


def test_without_the_registry_tenants_are_those_of_the_brokers(world: World) -> None:
    world.away = {"registry", "prometheus"}
    reading = reader(world).read()
    assert {row.tenant: row.state for row in reading.rows} == {"of-eu": "?", "of-us": "?"}
    assert set(reading.problems) == {"registry", "Prometheus of cell eu", "Prometheus of cell us"}
    assert {row.wait_source for row in reading.rows} == {"estimate"}


def test_the_registry_is_read_rarely_and_a_failure_repeated_at_once(world: World) -> None:
    reading = reader(world)
    reading.read()
    world.away = {"registry"}
    assert not reading.read().problems, "its rows are recent"
    world.now = 60.0
    assert set(reading.read().problems) == {"registry"}
    world.away = set()
    assert not reading.read().problems


def test_one_cell_alone_is_read(world: World) -> None:
    assert seen(reader(world, "eu").read()) == {"of-eu": (1, False)}
    assert world.outputs_read == ["eu"]
    with pytest.raises(InvalidChoice, match="--cell 'mars' is not a cell"):
        reader(world, "mars")


def test_a_terminal_that_cannot_move_its_cursor_gets_the_table_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, _environ={"TERM": "dumb"}, width=100)
    monkeypatch.setattr(top, "out", console)
    made = reader(world)
    monkeypatch.setattr(top, "open_site", lambda platform: made._site)
    assert CliRunner().invoke(top.app, []).exit_code == 0
    assert "of-eu" in written.getvalue()
