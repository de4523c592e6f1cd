from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from kryonix.cli import stack as stacks
from kryonix.cli.stack import what_goes

URN = "urn:pulumi:dev::kryonix::{type}::{name}"
TENANT = "kryonix:messaging:TenantMessaging"


def deployment(*resources: tuple[str, str]) -> dict[str, Any]:
    entries = [{"urn": URN.format(type=type, name=name), "type": type} for type, name in resources]
    return {"version": 3, "deployment": {"resources": entries}}


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ((), "0 resources of the stack 'dev'"),
        ((("pulumi:pulumi:Stack", "dev"),), "1 resource of the stack 'dev'"),
        (
            ((TENANT, "acme"), ("rabbitmq:index/vHost:VHost", "acme/vhost"), ("pulumi:providers:random", "default_4")),
            "2 resources of the stack 'dev', 1 tenant with all its messages among them",
        ),
        (
            ((TENANT, "acme"), (TENANT, "beta"), ("pulumi:providers:rabbitmq", "broker")),
            "3 resources of the stack 'dev', 2 tenants with all their messages among them",
        ),
    ],
)
def test_a_destroy_is_asked_for_with_what_goes(resources: tuple[tuple[str, str], ...], said: str) -> None:
    assert what_goes("dev", deployment(*resources)) == said


def test_an_empty_stack_of_the_cli_has_nothing_to_go() -> None:
    assert what_goes("dev", {"version": 3, "deployment": None}) == "0 resources of the stack 'dev'"


def test_who_is_asked_on_a_terminal_reads_what_goes_and_a_no_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    (tmp_path / "Pulumi.yaml").write_text("name: kryonix\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", lambda text: asked.append(text))
    engine = SimpleNamespace(export=lambda: deployment((TENANT, "acme")))  # it has no `destroy`
    monkeypatch.setattr(stacks, "engine_for", lambda *_: engine)
    with pytest.raises(typer.Exit):
        stacks.run("destroy", "dev", None, "local", json_output=False, yes=False)
    assert asked == ["Remove 1 resource of the stack 'dev', 1 tenant with all its messages among them?"]
