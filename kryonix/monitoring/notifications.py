"""Alertmanager's configuration: that of the operators, and a route and a receiver per tenant with `notify`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kryonix.errors import InvalidChoice
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.naming import TENANT_ID
from kryonix.topology.notify import Notify

AUDIENCE: Final = 'audience="tenant"'
"""Matches alerts that are meant for the tenant itself. The others are the operators' only."""
_TIMEOUT: Final = "10s"
_SMTP: Final = ("smtp_smarthost", "smtp_from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifications:
    """A configuration, the tenants with a receiver in it, and those whose addresses can't be used without SMTP."""

    configuration: Mapping[str, Any]
    routed: tuple[str, ...]
    without_smtp: tuple[str, ...]


def with_tenants(base: Mapping[str, Any], states: Iterable[DesiredState]) -> Notifications:
    """Return the base with the tenants' own routes and receivers. Raises InvalidChoice for a base without a route.

    The base's route comes last and takes every alert, so the operators get the tenants' too.
    """
    route, receivers = base.get("route"), base.get("receivers")
    if not (isinstance(route, Mapping) and route.get("receiver") and isinstance(receivers, list)):
        raise InvalidChoice("Alertmanager's base configuration needs `route` with `receiver`, and `receivers`")
    mail = all((base.get("global") or {}).get(name) for name in _SMTP)
    wanted = {
        state.cliente_id: state.notify
        for state in states
        if state.notify is not None and re.fullmatch(TENANT_ID, state.cliente_id)
    }
    made = {tenant: _receiver(tenant, notify, mail=mail) for tenant, notify in sorted(wanted.items())}
    routed = tuple(tenant for tenant, receiver in made.items() if len(receiver) > 1)
    return Notifications(
        configuration={
            **base,
            "route": {
                **{name: value for name, value in route.items() if name != "routes"},
                "routes": [*map(_route, routed), dict(route)],
            },
            "receivers": [*receivers, *(made[tenant] for tenant in routed)],
        },
        routed=routed,
        without_smtp=tuple(tenant for tenant, notify in sorted(wanted.items()) if notify.email and not mail),
    )


def _route(tenant: str) -> dict[str, Any]:
    """Return the route of a tenant's alerts. Its times are the base's, but for repetitions."""
    return {
        "receiver": _name(tenant),
        "matchers": [f'cliente_id="{tenant}"', AUDIENCE],
        "group_by": ["cliente_id", "alertname"],
        "continue": True,
        "routes": [
            {"matchers": ['severity="critical"'], "repeat_interval": "1h"},
            {"matchers": ['severity="info"'], "repeat_interval": "24h"},
        ],
    }


def _receiver(tenant: str, notify: Notify, *, mail: bool) -> dict[str, Any]:
    """Return a tenant's receiver. A redirect is not followed: it could lead into the platform's own network."""
    receiver: dict[str, Any] = {"name": _name(tenant)}
    if notify.webhook is not None:
        http = {"follow_redirects": False}
        hook = {"url": notify.webhook, "send_resolved": True, "timeout": _TIMEOUT, "http_config": http}
        receiver["webhook_configs"] = [hook]
    if notify.email and mail:
        # One each: an address that the server refuses does not hold the others.
        receiver["email_configs"] = [{"to": address, "send_resolved": True} for address in notify.email]
    return receiver


def _name(tenant: str) -> str:
    return f"tenant/{tenant}"
