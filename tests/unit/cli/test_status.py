"""`kryonix status` of a stack whose outputs name neither a broker nor a registry."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from rich.console import Console

from kryonix.cli import site
from kryonix.cli.options import StackOptions
from kryonix.cli.status import problems_of, read_status, status_report
from kryonix.engines.engine import StackSpec

OUTPUTS = {
    "management_url": "http://broker:15672",
    "amqp_host": "broker",
    "amqp_port": 5672,
    "registry_stack": "",
    "tenants": {"acme": {"plan": "basic", "modules": ["crm"], "vhost": "/cliente_acme", "queues": 15}},
}


def test_unread_values_are_null_and_the_reason_is_printed() -> None:
    status = read_status(OUTPUTS)
    (tenant,) = status["tenants"]
    assert (tenant["registry"], tenant["vhost_present"], tenant["recorded_queues"]) == (None, None, 15)
    assert [problem.split(":")[0] for problem in problems_of(status).values()] == [
        "the broker was not read",
        "the registry was not read",
    ]
    console = Console(width=140)
    with console.capture() as shown:
        console.print(*status_report(status, console))
    assert "showing the recorded state" in shown.get()


def test_the_amqp_address_has_the_scheme_that_is_served() -> None:
    secured = {**OUTPUTS, "management_url": "https://broker:15672", "amqp_addresses": ["broker:5672"]}
    assert [read_status(outputs)["amqp"] for outputs in (OUTPUTS, secured)] == [
        "amqp://broker:5672",
        "amqps://broker:5672",
    ]


def test_a_tenants_stack_without_nodes_has_those_of_its_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    of_platform = {"management_url": "http://inside", "management_urls": ["http://one", "http://two"]}
    stacks = {"dev": of_platform, "tenant-acme": {"management_url": "http://outside", "management_urls": []}}
    engine = SimpleNamespace(outputs=lambda spec: stacks[spec.name])
    monkeypatch.setattr(site, "engine_of", lambda _: engine)
    monkeypatch.setattr(site, "spec_of", lambda _: StackSpec(name="tenant-acme"))
    monkeypatch.setattr(site, "platform_of", lambda _: "dev")
    found = site.outputs_with_platform(StackOptions(), {})
    assert (found["management_url"], len(found["management_urls"])) == ("http://outside", 2)
