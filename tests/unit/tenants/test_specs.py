"""A tenant's row as the config of its stack, and its credentials as they are handed out."""

from __future__ import annotations

from typing import Any, Final

from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.specs import spec_for
from kryonix.topology.cells import parse_cells

CELLS: Final = parse_cells(b"cells: {main: {platform: organization/kryonix/dev}}", "cells.yaml")
OUTPUTS = {"vhost": "/cliente_acme", "username": "kryonix_acme", "password": "p", "amqp_uri": "amqp://"}
PAIR = {"client_certificate": "a certificate", "client_key": "its key"}


def declared(**fields: Any) -> Any:
    """Return the tenant in the config of its stack."""
    config = spec_for(DesiredState(cliente_id="acme", modules=("crm",), plan="basic", **fields), CELLS).config
    return (config or {})["kryonix:tenant"]


def test_a_stacks_config_names_a_certificate_but_not_a_password() -> None:
    assert "auth" not in declared(), "as it was before there was a choice"
    assert declared(auth="certificate")["auth"] == "certificate"


def test_a_certificate_is_handed_out_beside_the_password_for_figures() -> None:
    by_password, certified = Credentials.of(OUTPUTS), Credentials.of({**OUTPUTS, **PAIR})
    assert by_password.shown() == OUTPUTS
    assert certified.shown() == {**OUTPUTS, **PAIR}
    assert by_password.passwords == {"kryonix_acme": "p", "kryonix_acme.stats": "p"}
    assert certified.passwords == {"kryonix_acme": "", "kryonix_acme.stats": "p"}
    assert "its key" not in repr(certified)
