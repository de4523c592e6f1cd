from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from kryonix.cli import site
from kryonix.cli import stack as stacks
from kryonix.cli.options import StackOptions
from kryonix.cli.stack import removal_text
from kryonix.engines.errors import EngineFailed
from kryonix.engines.local.errors import Protected

URN = "urn:pulumi:dev::kryonix::{type}::{name}"
TENANT = "kryonix:messaging:TenantMessaging"


def deployment(*resources: tuple[str, str]) -> dict[str, Any]:
    entries = [{"urn": URN.format(type=type, name=name), "type": type} for type, name in resources]
    return {"version": 3, "deployment": {"resources": entries}}


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ((), "0 resources of stack 'dev'"),
        ((("pulumi:pulumi:Stack", "dev"),), "1 resource of stack 'dev'"),
        (
            ((TENANT, "acme"), ("rabbitmq:index/vHost:VHost", "acme/vhost"), ("pulumi:providers:random", "default_4")),
            "2 resources of stack 'dev', including 1 tenant with all its messages",
        ),
        (
            ((TENANT, "acme"), (TENANT, "beta"), ("pulumi:providers:rabbitmq", "broker")),
            "3 resources of stack 'dev', including 2 tenants with all their messages",
        ),
    ],
)
def test_destroy_asks_and_lists_what_it_removes(resources: tuple[tuple[str, str], ...], said: str) -> None:
    assert removal_text("dev", deployment(*resources)) == said


def test_an_empty_stack_of_the_pulumi_cli_has_no_resources() -> None:
    assert removal_text("dev", {"version": 3, "deployment": None}) == "0 resources of stack 'dev'"


def test_a_no_on_a_terminal_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    (tmp_path / "Pulumi.yaml").write_text("name: kryonix\n")
    (tmp_path / "Pulumi.dev.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", lambda text: asked.append(text))
    engine = SimpleNamespace(export=lambda _: deployment((TENANT, "acme")))  # it has no `destroy`
    monkeypatch.setattr(site, "engine_of", lambda *_, **__: engine)
    with pytest.raises(typer.Exit):
        stacks.destroy(StackOptions())
    assert asked == ["Remove 1 resource of stack 'dev', including 1 tenant with all its messages?"]


def test_a_stack_left_by_a_killed_adoption_is_not_destroyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its resources are protected, as the platform's stack still manages them."""

    def protected(operation: str, *_: object) -> None:
        raise Protected("Protected.")

    monkeypatch.setattr(stacks, "_run", protected)
    with pytest.raises(EngineFailed, match=r"^Protected\. If a killed `kryonix tenant adopt`") as caught:
        stacks.destroy(StackOptions(stack="tenant-acme"), yes=True)
    assert (caught.value.exit_status, caught.value.kind) == (1, "protected")
    with pytest.raises(Protected, match=r"^Protected\.$"):
        stacks.destroy(StackOptions(), yes=True)
