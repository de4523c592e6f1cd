"""What `status` says where a stack's outputs lead to no broker and no registry."""

from __future__ import annotations

from rich.console import Console

from kryonix.cli.status import read_status, status_json, status_table

OUTPUTS = {
    "management_url": "http://broker:15672",
    "amqp_host": "broker",
    "amqp_port": 5672,
    "registry_stack": "",
    "tenants": {"acme": {"plan": "basic", "modules": ["crm"], "vhost": "/cliente_acme", "queues": 15}},
}


def test_what_was_not_asked_is_said_and_not_guessed() -> None:
    status = read_status(OUTPUTS)
    (tenant,) = status_json(status)["tenants"]
    assert (tenant["registry"], tenant["vhost_present"], tenant["recorded_queues"]) == (None, None, 15)
    assert [problem.split(":")[0] for problem in status.problems] == [
        "the broker was not asked",
        "the registry was not asked",
    ]
    console = Console(width=140)
    with console.capture() as shown:
        status_table(status, console)
    assert "the state's record" in shown.get()
