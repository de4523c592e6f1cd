"""Alertmanager's configuration with the tenants' own receivers."""

from __future__ import annotations

from typing import Any

import pytest

from kryonix.errors import InvalidChoice
from kryonix.monitoring.notifications import with_tenants
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.notify import Notify

OPERATORS: dict[str, Any] = {
    "route": {
        "receiver": "operators",
        "group_by": ["alertname"],
        "routes": [{"matchers": ['severity="critical"'], "receiver": "operators", "group_wait": "5s"}],
    },
    "receivers": [{"name": "operators", "webhook_configs": [{"url": "https://ops.example.com/"}]}],
    "inhibit_rules": [{"source_matchers": ['alertname="BrokerDown"'], "target_matchers": ['audience="tenant"']}],
}
SMTP = {"global": {"smtp_smarthost": "mail.example.com:587", "smtp_from": "kryonix@example.com"}}
HOOK = Notify(webhook="https://hooks.example.com/a")
MAIL = Notify(email=("a@example.com", "b@example.com"))


def tenant(id: str, notify: Notify | None) -> DesiredState:
    return DesiredState(cliente_id=id, modules=("crm",), plan="basic", notify=notify)


def test_without_notify_only_the_operators_are_notified() -> None:
    found = with_tenants(OPERATORS, [tenant("acme", None)])
    assert found.configuration["receivers"] == OPERATORS["receivers"]
    assert found.configuration["route"]["routes"] == [OPERATORS["route"]]
    assert found.routed == ()


def test_a_tenants_alerts_go_to_its_receiver_and_then_to_the_operators() -> None:
    found = with_tenants(OPERATORS, [tenant("beta", HOOK), tenant("acme", HOOK)])
    acme, beta, operators = found.configuration["route"]["routes"]
    assert (acme["receiver"], beta["receiver"]) == ("tenant/acme", "tenant/beta")
    assert acme["matchers"] == ['cliente_id="acme"', 'audience="tenant"']
    assert acme["continue"]
    assert acme["group_by"] == ["cliente_id", "alertname"]
    assert operators == OPERATORS["route"], "the last route takes every alert, as the root takes none"
    assert found.configuration["route"]["receiver"] == "operators"
    assert found.configuration["inhibit_rules"] == OPERATORS["inhibit_rules"]


def test_a_receiver_has_the_webhook_and_a_mail_per_address() -> None:
    both = Notify(webhook=HOOK.webhook, email=MAIL.email)
    found = with_tenants({**OPERATORS, **SMTP}, [tenant("acme", both)])
    receiver = found.configuration["receivers"][-1]
    assert receiver["name"] == "tenant/acme"
    (hook,) = receiver["webhook_configs"]
    assert (hook["url"], hook["send_resolved"], hook["http_config"]) == (
        HOOK.webhook,
        True,
        {"follow_redirects": False},
    )
    assert [each["to"] for each in receiver["email_configs"]] == list(MAIL.email)


def test_without_smtp_addresses_are_left_out_and_counted() -> None:
    found = with_tenants(
        OPERATORS, [tenant("acme", MAIL), tenant("beta", Notify(webhook=HOOK.webhook, email=("a@b.de",)))]
    )
    assert found.routed == ("beta",)
    assert found.without_smtp == ("acme", "beta")
    assert "email_configs" not in str(found.configuration)


def test_a_row_with_an_id_that_is_none_is_left_out() -> None:
    assert with_tenants(OPERATORS, [tenant('x"} or vector(1)', HOOK)]).routed == ()


@pytest.mark.parametrize("base", [{}, {"route": {"receiver": "a"}}, {"route": {}, "receivers": []}, {"route": "a"}])
def test_a_base_without_a_route_is_refused(base: dict[str, Any]) -> None:
    with pytest.raises(InvalidChoice, match="needs `route` with `receiver`, and `receivers`"):
        with_tenants(base, [])
