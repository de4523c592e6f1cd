"""`kryonix status` of a stack whose outputs name neither a broker nor a registry."""

from __future__ import annotations

from rich.console import Console

from kryonix.cli.status import problems_of, read_status, status_report

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
