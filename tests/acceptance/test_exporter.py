"""`kryonix exporter` serves the figures of tenants, and `kryonix top` shows them live."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from kryonix.fleet.members import registered_tenants
from kryonix.monitoring.drift import DriftReader, read_seen
from kryonix.rabbitmq.broker import Broker
from kryonix.topology.catalog import default_catalog
from tests.support.amqp import Application
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, free_port
from tests.support.terminal import Terminal
from tests.support.waiting import eventually


@contextmanager
def exporter(platform: Project, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the command, and yield the URL that it prints, and its process."""
    command = platform.command(
        "exporter", "--stack", platform.stack, "--engine", "local", "--port", "0", "--interval", "1", *arguments
    )
    process = subprocess.Popen(command, cwd=platform.folder, env=platform.env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield process.stderr.readline().split()[-1], process
    finally:
        process.kill()
        process.communicate()


def test_every_tenants_limits_state_and_connections_are_served(platform: Project, tmp_path: Path) -> None:
    acme = Application.of(platform.outputs(), "acme")
    limits = default_catalog().plans["enterprise"].limits

    def shows(url: str, wanted: str) -> str:
        """Wait for a text among the metrics, and return them."""

        def look() -> str:
            text = httpx.get(url, timeout=30).text
            return text if wanted in text else ""

        return eventually(wanted, look)

    async def connected(url: str) -> None:
        async with acme.account.channel():
            await asyncio.to_thread(shows, url, 'kryonix_tenant_channels{cliente_id="acme"} 1.0')

    base, file = tmp_path / "base.yml", tmp_path / "alertmanager.yml"
    base.write_text("{route: {receiver: operators}, receivers: [{name: operators}]}")
    away = f"http://127.0.0.1:{free_port()}"
    with exporter(platform, "--alertmanager-config", str(file), "--alertmanager", away) as (url, process):
        eventually("the file is written", file.exists)  # before the first reading nothing is readable either
        shows(url, 'kryonix_exporter_source_readable{source="alertmanager"} 0.0')
        assert yaml.safe_load(file.read_text())["route"]["routes"][-1] == {"receiver": "operators"}
        text = shows(url, "kryonix_tenant_info{")
        assert f'kryonix_plan_limit{{cliente_id="acme",resource="connections"}} {limits.max_connections}.0' in text
        assert 'vhost="/cliente_beta"' in text
        for source in ("registry", "cell main"):
            shows(url, f'kryonix_exporter_source_readable{{source="{source}"}} 1.0')
        shows(url, "kryonix_tenant_larger_plan{")
        shows(url, 'kryonix_operations_total{kind="create",outcome="failed"} 0.0')
        for source in ("operations", "backups", "routing", "drift main", "certificates main"):
            shows(url, f'kryonix_exporter_source_readable{{source="{source}"}} 1.0')
        assert 'kryonix_tenant_drifted{cliente_id="acme"} 0.0' in shows(url, "kryonix_tenant_drifted{")
        asyncio.run(connected(url))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_tenant_changed_by_hand_has_drifted_until_it_is_mended(platform: Project, broker: LiveBroker) -> None:
    outputs = platform.outputs()
    login = {"admin_username": outputs["metrics_username"], "admin_password": outputs["metrics_password"]}
    reader = DriftReader(
        "main",
        lambda: registered_tenants(outputs["registry_dsn"]),
        lambda: read_seen(outputs, Broker.of({**outputs, **login})),
        default_catalog(),
        alone=True,
    )

    def drifted() -> dict[str, float]:
        (family,) = reader.read(wait=lambda seconds: None)
        return {each.labels["cliente_id"]: each.value for each in family.samples}

    assert {"acme": 0, "beta": 0}.items() <= drifted().items()
    own = ("exchanges", "/cliente_acme", "by-hand")
    broker.call("PUT", *own, json={"type": "topic", "durable": True}).raise_for_status()
    try:
        eventually("it has drifted", lambda: {"acme": 1, "beta": 0}.items() <= drifted().items())
    finally:
        broker.call("DELETE", *own)
    eventually("it has not drifted", lambda: drifted()["acme"] == 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--interval", "0"), "--interval"),
        (("--host", "203.0.113.1"), "cannot open 203.0.113.1:"),
        (("--certificate", "http://127.0.0.1"), "'http://127.0.0.1' is not a URL such as https://"),
        (("--alertmanager", "http://127.0.0.1:9093"), "give --alertmanager and --alertmanager-config together"),
    ],
)
def test_the_exporter_refuses_what_it_cannot_do(platform: Project, arguments: tuple[str, ...], said: str) -> None:
    done = platform.kryonix("exporter", "--stack", platform.stack, "--engine", "local", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def top(platform: Project, *options: str) -> Terminal:
    command = platform.command("top", "--stack", platform.stack, "--engine", "local", "--interval", "1", *options)
    return Terminal(command, platform.folder, platform.env)


def test_top_shows_tenants_live_and_obeys_keys(platform: Project) -> None:
    with top(platform) as terminal:
        terminal.shows("acme", "beta", "by depth", "fullest limit", "q quit")
        terminal.press("s")
        terminal.shows("by in")
        terminal.press("fbeta")
        terminal.shows("filter: beta")
        terminal.press("\r")
        terminal.shows("1 of", "filter 'beta'", without="acme")
        terminal.press("q")
        assert terminal.process.wait(60) == 0
        eventually("the terminal is as before", lambda: terminal.restored)


def test_top_leaves_the_terminal_as_it_was_when_it_is_ended(platform: Project) -> None:
    with top(platform, "--filter", "acme") as terminal:
        terminal.shows("acme", without="beta")
        terminal.process.terminate()
        assert terminal.process.wait(60) == 128 + signal.SIGTERM
        eventually("the terminal is as before", lambda: terminal.restored)


def test_top_without_a_terminal_prints_what_the_broker_has(platform: Project, broker: LiveBroker) -> None:
    queue = "cliente_acme.portal.conteudo.processar"

    def row() -> dict[str, Any]:
        done = platform.kryonix("top", "--stack", platform.stack, "--engine", "local", "--filter", "acme", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["problems"] == {}
        (acme,) = [each for each in found["tenants"] if each["tenant"] == "acme"]
        return dict(acme)

    before = row()
    broker.publish("/cliente_acme", queue, 3)
    try:
        eventually("three messages more", lambda: row()["depth"] == before["depth"] + 3)
    finally:
        broker.take("/cliente_acme", queue, 3)
    assert (before["cell"], before["state"], before["plan"]) == ("main", "active", "enterprise")
    assert before["shares"].keys() == {"depth", "connections", "channels"}
    printed = platform.kryonix("top", "--stack", platform.stack, "--engine", "local")
    assert printed.returncode == 0
    assert "acme" in printed.stdout
    assert "\x1b" not in printed.stdout


@pytest.mark.parametrize("option", [("--sort", "deep"), ("--cell", "mian")])
def test_top_refuses_an_unknown_column_or_cell(platform: Project, option: tuple[str, str]) -> None:
    done = platform.kryonix("top", "--stack", platform.stack, "--engine", "local", *option)
    assert done.returncode == 2
    assert f"{option[0]} {option[1]!r} is not a" in done.stderr
