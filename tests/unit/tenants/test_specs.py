"""A tenant's row as the config of its stack, and its credentials as they are handed out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from kryonix.messaging.configuration import find_address
from kryonix.registry.desired_states import DesiredState
from kryonix.signup.schemas import CredentialsAnswer
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


def test_what_is_handed_out_is_the_sdks_file_for_every_node(tmp_path: Path) -> None:
    entry = {**OUTPUTS, "amqp_uri": "amqps://kryonix_acme:p@one:5671/%2Fcliente_acme"}
    addresses = {"amqp_addresses": ["one:5671", "two:5671"], "ca_certificate": "PEM"}
    made = Credentials.of(entry, {**addresses, "admin_password": "not the tenant's"}).shown()
    assert made == {**entry, **addresses}
    for handed_out in (made, CredentialsAnswer(**made).model_dump(exclude_none=True)):
        (file := tmp_path / "acme.json").write_text(json.dumps(handed_out))
        file.chmod(0o600)
        found = find_address(None, file, None, None)
        assert (found.amqp_addresses, found.ca_certificate) == (["one:5671", "two:5671"], "PEM")


def test_credentials_of_an_older_platform_name_one_address() -> None:
    assert Credentials.of(OUTPUTS, {"tenants": {}, "ca_certificate": ""}).shown() == OUTPUTS
