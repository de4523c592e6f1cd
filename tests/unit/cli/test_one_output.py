"""`kryonix outputs KEY`: the plain value of one output."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from kryonix.cli import site, stack
from kryonix.cli.options import StackOptions
from kryonix.errors import InvalidChoice

OUTPUTS = {
    "management_url": "http://[::1]:1",
    "admin_password": "hidden",
    "amqp_port": 5672,
    "tenants": {"acme": {}},
}


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def outputs(spec: object, *, show_secrets: bool) -> dict[str, object]:
        return OUTPUTS if show_secrets else OUTPUTS | {"admin_password": "[secret]"}

    monkeypatch.setattr(site, "engine_of", lambda target: SimpleNamespace(outputs=outputs))
    monkeypatch.setattr(site, "spec_of", lambda target: None)


@pytest.mark.parametrize(
    ("key", "printed"),
    [("management_url", "http://[::1]:1\n"), ("amqp_port", "5672\n"), ("tenants", '{\n  "acme": {}\n}\n')],
)
def test_one_output_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], key: str, printed: str) -> None:
    stack.outputs(StackOptions(), key)
    assert capsys.readouterr().out == printed
    stack.outputs(StackOptions(), key, json_output=True)
    assert json.loads(capsys.readouterr().out) == OUTPUTS[key]


def test_a_secret_output_needs_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidChoice, match="Add --show-secrets"):
        stack.outputs(StackOptions(), "admin_password")
    stack.outputs(StackOptions(), "admin_password", show_secrets=True)
    assert capsys.readouterr().out == "hidden\n"


def test_an_unknown_output_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InvalidChoice, match="stack 'dev' has no output 'management'; did you mean 'management_url'"):
        stack.outputs(StackOptions(), "management")
