"""What `status` says where a stack's outputs lead to no registry."""

from __future__ import annotations

from rich.console import Console

from kryonix.operations.status import status_json, status_table

OUTPUTS = {
    "management_url": "http://broker:15672",
    "amqp_host": "broker",
    "amqp_port": 5672,
    "registry_stack": "",
    "tenants": {"acme": {"plan": "basic", "modules": ["crm"], "vhost": "/cliente_acme", "queues": 15}},
}


def test_a_registry_that_was_not_asked_is_said_and_not_guessed() -> None:
    (tenant,) = status_json(OUTPUTS)["tenants"]
    assert tenant["registry"] is None
    console = Console(width=140)
    with console.capture() as shown:
        status_table(OUTPUTS, console)
    assert "not asked" in shown.get()
