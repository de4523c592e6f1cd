from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kryonix.operations.errors import InvalidChoice
from kryonix.operations.messaging_commands import app

URI = "amqp://kryonix_acme:hidden@127.0.0.1:1/%2Fcliente_acme"


def refusal(*arguments: str, **env: str) -> str:
    """What a command says that refuses its input, before it has connected to anything."""
    unset = dict.fromkeys(("KRYONIX_AMQP_URI", "KRYONIX_OUTPUTS", "KRYONIX_MANAGEMENT_URL"))
    result = CliRunner().invoke(app, arguments, env={**unset, **env})
    assert isinstance(result.exception, InvalidChoice), result.exception
    assert result.exception.exit_status == 2
    assert "hidden" not in str(result.exception) + result.output
    return str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("send", "crm.leads.create", "{"), "not JSON"),
        (("send", "crm", "{}"), "MODULE.ACTION"),
        (("send", "crm.leads.create", "{}", "--device", "phone"), "mobile, web, unknown"),
        (("send", "crm.leads.create", "{}", "--header", "source"), "NAME=VALUE"),
        (("redrive", "--action", "leads.create"), "--module"),
        (("redrive", "--module", "crm", "--action", "lead.create"), "did you mean 'leads.create'"),
        (("stats", "--tenant", "beta"), "'beta'"),
        (("stats", "--uri", URI), "KRYONIX_AMQP_URI"),
        (("stats", "--management-url", "http://a:hidden@b"), "login"),
        (("stats", "--watch", "--json"), "--watch"),
        (("worker", "nowhere:HANDLERS", "--plan", "pro"), "no module 'nowhere'"),
        (("worker", "nowhere:HANDLERS"), "--plan"),
        (("worker", "nowhere:HANDLERS", "--plan", "por"), "did you mean 'pro'"),
        (("worker", "--plan", "pro"), "MODULE:HANDLERS"),
    ],
)
def test_what_cant_be_accepted_is_said_with_a_remedy(arguments: tuple[str, ...], said: str) -> None:
    assert said in refusal(*arguments, KRYONIX_AMQP_URI=URI)


def test_a_uri_that_cant_be_read_is_said_without_its_password() -> None:
    assert "no tenant's" in refusal("redrive", KRYONIX_AMQP_URI="amqp://a:hidden@b/c")


def test_without_any_address_the_three_ways_to_give_one_are_named() -> None:
    said = refusal("redrive")
    assert all(way in said for way in ("KRYONIX_AMQP_URI", "--outputs", "--stack"))


def test_a_file_of_outputs_is_private_and_has_the_tenant_and_its_secrets(tmp_path: Path) -> None:
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps({"tenants": {"acme": {"amqp_uri": "[secret]"}, "beta": {"amqp_uri": URI}}}))
    file.chmod(0o640)
    assert "chmod 600" in refusal("redrive", "--outputs", str(file))
    assert "chmod 600" in refusal("redrive", KRYONIX_OUTPUTS=str(file))
    file.chmod(0o600)
    assert "2 tenants" in refusal("redrive", "--outputs", str(file))
    assert "did you mean 'acme'" in refusal("redrive", "--outputs", str(file), "--tenant", "acm")
    assert "without secrets" in refusal("redrive", "--outputs", str(file), "--tenant", "acme")
    assert "--stack" in refusal("redrive", "--outputs", str(file), "--stack", "dev")
    file.write_text("{")
    assert "not JSON" in refusal("redrive", "--outputs", str(file))
    assert "can't be read" in refusal("redrive", "--outputs", str(tmp_path / "none"))
