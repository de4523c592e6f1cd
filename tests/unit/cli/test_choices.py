from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kryonix.cli.app import app
from kryonix.errors import InvalidChoice, KryonixError
from kryonix.worker.metrics import WorkerMetrics

URI = "amqp://kryonix_acme:hidden@127.0.0.1:1/%2Fcliente_acme"


def refusal(*arguments: str, **env: str) -> str:
    """Run a command that refuses its input before it connects to anything, and return the message."""
    unset = dict.fromkeys(("KRYONIX_AMQP_URI", "KRYONIX_OUTPUTS", "KRYONIX_MANAGEMENT_URL"))
    result = CliRunner().invoke(app, arguments, env={**unset, **env})
    assert isinstance(result.exception, KryonixError), result.exception
    assert result.exception.exit_status == 2
    assert "hidden" not in str(result.exception) + result.output
    return str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("send", "crm.leads.create", "{"), "not JSON"),
        (("send", "crm.leads.create"), "there is no data"),
        (("send", "crm.leads.create", " "), "there is no data"),
        (("send", "crm", "{}"), "MODULE.ACTION"),
        (("send", "crm.leads.create", "{}", "--header", "source"), "NAME=VALUE"),
        (("redrive", "--action", "leads.create"), "--module"),
        (("redrive", "--module", "crm", "--action", "lead.create"), "did you mean 'leads.create'"),
        (("stats", "--tenant", "beta"), "'beta'"),
        (("stats", "--uri", URI), "KRYONIX_AMQP_URI"),
        (("stats", "--management-url", "http://a:hidden@b"), "login"),
        (("stats", "--watch", "--json"), "--watch"),
        (("stats", "--catalog", "none.yaml"), "can't be read"),
        (("send", "crm.leads.create", "[" * 100_000), "not JSON"),
        (("send", "crm.leads.create", "{}", "--file", "x"), "both given"),
        (("send", "crm.leads.create", "--file", "."), "can't be read"),
        (("worker", "handlers.py:HANDLERS", "--plan", "pro"), "no module 'handlers.py'"),
        (("worker", "./handlers:HANDLERS", "--plan", "pro"), "not a valid module name"),
        (("worker", "..handlers:HANDLERS", "--plan", "pro"), "not a valid module name"),
        (("worker", "nowhere:HANDLERS", "--plan", "pro"), "no module 'nowhere'"),
        (("worker", "nowhere:HANDLERS"), "--plan"),
        (("worker", "nowhere:HANDLERS", "--plan", "por"), "did you mean 'pro'"),
        (("worker", "--plan", "pro"), "MODULE:HANDLERS"),
        (("worker", "--keda", "--namespace", "Shop!"), "not a valid namespace"),
        (("worker", "--keda", "--tenants", "none.yaml"), "can't be read"),
        (("send", "crm.leads.create", '"\udcff"'), "not JSON"),
    ],
)
def test_invalid_input_is_refused_with_a_remedy(arguments: tuple[str, ...], said: str) -> None:
    assert said in refusal(*arguments, KRYONIX_AMQP_URI=URI)


@pytest.mark.parametrize("url", ["http://[x", "nonsense"])
def test_an_invalid_management_url_is_refused(url: str) -> None:
    result = CliRunner().invoke(app, ("stats", "--management-url", url), env={"KRYONIX_AMQP_URI": URI})
    assert isinstance(result.exception, KryonixError)
    assert "http://HOST:15672" in str(result.exception)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--timeout", "0"),
        ("--timeout", "nan"),
        ("--timeout", "inf"),
        ("--wait", "nan"),
        ("--wait", "-1"),
        ("--interval", "nan"),
        ("--drain", "inf"),
        ("--handler-timeout", "nan"),
        ("--limit", "0"),
        ("--window", "-1"),
        ("--device", "phone"),
    ],
)
def test_an_invalid_value_of_an_option_is_refused(option: str, value: str) -> None:
    taken = {"--timeout": "send", "--device": "send", "--wait": "consume", "--limit": "redrive", "--interval": "stats"}
    arguments = {"send": ("crm.leads.create", "{}"), "consume": ("crm.leads.create",), "worker": ("x:Y",)}
    command = taken.get(option, "worker")
    result = CliRunner().invoke(app, (command, *arguments.get(command, ()), option, value))
    assert result.exit_code == 2
    assert option in result.output


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def (", "SyntaxError"),
        ("1 / 0", "spoiled.py:1: ZeroDivisionError"),
        ("import json.nothing", "imports 'json.nothing'"),
        ("HANDLERS = [1]", "is list, not a mapping. Map at least one"),
        ("HANDLERS = {'crm.leads.create': print}", "not an async function"),
        ("class Handler: ...\nHANDLERS = {'crm.leads.create': Handler}", "Handler is a class, not an async function"),
        ("async def f(): ...\nHANDLERS = {'crm.leads.create': f}", "f does not take the message"),
        (
            "async def f(m): ...\nHANDLERS = {'crm.leads.create': (f, f)}",
            "model: f cannot be validated (it is not a type)",
        ),
        ("HANDLERS = {}", "is empty. Map at least one"),
        ("HANDLER = 1", "no 'HANDLERS'; did you mean 'HANDLER'? Allowed: HANDLER"),
        ("import sys; sys.exit(3)", "spoiled.py:1: SystemExit: 3"),
    ],
)
def test_a_failed_import_of_handlers_names_file_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    (tmp_path / "spoiled.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.delitem(sys.modules, "spoiled", raising=False)
    importlib.invalidate_caches()
    assert said in refusal("worker", "spoiled:HANDLERS", "--plan", "pro", KRYONIX_AMQP_URI=URI)


def test_an_invalid_uri_is_reported_without_its_password() -> None:
    assert "not a tenant's vhost" in refusal("redrive", KRYONIX_AMQP_URI="amqp://a:hidden@b/c")


def test_a_missing_address_names_the_three_ways_to_give_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = refusal("redrive")
    assert all(way in said for way in ("KRYONIX_AMQP_URI", "--outputs", "project's folder"))


def test_an_outputs_file_is_private_and_has_the_tenants_secrets(tmp_path: Path) -> None:
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
    file.write_text("[" * 100_000)
    assert "not JSON" in refusal("redrive", "--outputs", str(file))
    assert "cannot read" in refusal("redrive", "--outputs", str(tmp_path / "none"))


@pytest.mark.parametrize(
    "fields", [{"modules": 5}, {"modules": [["crm"]]}, {"modules": "crm"}, {"plan": []}, {"plan": 5}], ids=str
)
def test_invalid_fields_of_an_outputs_file_are_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps({"tenants": {"acme": {"amqp_uri": URI, **fields}}}))
    file.chmod(0o600)
    for command in (("redrive",), ("stats",), ("worker", "--keda")):
        assert "invalid plan or modules" in refusal(*command, "--outputs", str(file))


@pytest.mark.parametrize("host", ["..", "no.such.host.invalid", "256.0.0.1"])
def test_an_unavailable_metrics_address_is_reported(host: str) -> None:
    with pytest.raises(InvalidChoice, match=f"cannot open {host}:"):
        WorkerMetrics().serve(host, 9)


def test_a_wrong_choice_of_an_option_is_told_plainly() -> None:
    said = CliRunner().invoke(app, ["plan", "--format", "xml"], env={"COLUMNS": "120"}).output
    assert "'xml' is not one of 'table', 'markdown', 'json'" in said
    assert "Value error" not in said


def test_plan_outside_a_project_says_where_to_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "has no Pulumi.yaml. Run this in the project's folder, or give --tenants FILE" in refusal("plan")
    assert "'none.yaml' can't be read" in refusal("plan", "--tenants", "none.yaml")
