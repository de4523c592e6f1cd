"""`--stack S --tenant X` of the messages' commands: X is found whatever manages it."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from kryonix.cli import connection, messages, site
from kryonix.cli.connection import tenant_outputs
from kryonix.cli.options import PlatformOptions
from kryonix.engines.engine import StackSpec
from kryonix.errors import InvalidChoice, ServiceUnreachable
from kryonix.tenants.credentials import find_credentials
from kryonix.tenants.errors import NoCredentials
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import single_cell

STACKS: dict[str, dict[str, Any]] = {
    "dev": {"tenants": {"listed": {}, "solos": {}}},
    "west": {"tenants": {"western": {}}},
    "prod": {"tenants": {}},
    "tenant-solo": {"tenants": {"solo": {}}},
    "tenant-other": {"tenants": {"other": {}}},
}
PLATFORMS = {"tenant-solo": "west", "tenant-other": "prod"}


class Engine:
    def stacks(self) -> list[str]:
        return sorted(STACKS)

    def outputs(self, stack: StackSpec, **_: bool) -> dict[str, Any]:
        return STACKS.get(stack.name, {})

    def export(self, stack: StackSpec) -> str:
        return stack.name


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").touch()
    cells = "cells: {main: {platform: organization/kryonix/dev}, west: {platform: organization/kryonix/west}}"
    (tmp_path / "cells.yaml").write_text(cells)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(site, "engine_of", lambda options: Engine())
    monkeypatch.setattr(connection, "stack_outputs", STACKS.__getitem__)
    monkeypatch.setattr("kryonix.engines.containers.platform_of", PLATFORMS.get)


@pytest.mark.parametrize(
    ("stack", "tenant", "found"),
    [
        ("dev", "listed", "dev"),
        ("dev", None, "dev"),
        ("dev", "solo", "tenant-solo"),
        ("tenant-solo", "solo", "tenant-solo"),
        ("dev", "western", "west"),
    ],
)
def test_a_tenant_is_found_in_its_stack(stack: str, tenant: str | None, found: str) -> None:
    assert tenant_outputs(stack, tenant) is STACKS[found]


def test_a_tenant_of_another_platform_is_not_acted_upon() -> None:
    with pytest.raises(InvalidChoice, match=r"'other' is not on the platform of stack 'dev'\. Give --stack prod$"):
        tenant_outputs("dev", "other")


def test_an_unknown_tenant_is_refused_with_the_nearest_of_all() -> None:
    with pytest.raises(NoCredentials, match="did you mean 'solo'"):
        tenant_outputs("dev", "sola")
    with pytest.raises(NoCredentials, match="did you mean 'listed'"):
        tenant_outputs("dev", "../listed")


def test_an_unknown_tenant_of_an_operation_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").touch()
    said = str(site._no_operations(PlatformOptions(), "sole"))
    assert said.startswith("there is no tenant 'sole'; did you mean 'solo'? Allowed: listed, other, solo, solos.")
    assert "is declared in Pulumi.tenant-solo.yaml" in str(site._no_operations(PlatformOptions(), "solo"))
    assert "tenants.yaml" in str(site._no_operations(PlatformOptions(), "listed"))


def test_credentials_of_an_unknown_tenant_name_those_with_own_stacks() -> None:
    with pytest.raises(NoCredentials, match="did you mean 'solo'"):
        find_credentials(Engine(), "solx", "prod")  # type: ignore[arg-type]


def test_unrouted_messages_of_an_unknown_tenant_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(work: Coroutine[object, object, object]) -> None:
        work.close()
        raise ServiceUnreachable("no such vhost, or no permission there")

    monkeypatch.setattr(messages, "run_async", refuse)
    monkeypatch.setattr(messages, "stack_outputs", STACKS.__getitem__)
    with pytest.raises(NoCredentials, match="did you mean 'listed'"):
        messages.unrouted(tenant="listet")
    with pytest.raises(ServiceUnreachable):
        messages.unrouted(tenant="listed")


def test_an_unknown_cell_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    here = site.Site(registry_dsn="", cells=single_cell("dev"), engine=Engine(), catalog=default_catalog())  # type: ignore[arg-type]
    with pytest.raises(InvalidChoice, match="--cell 'sul' is not a cell; allowed: main") as refused:
        here.states("sul")
    assert str(refused.value).endswith("Cells are declared in cells.yaml")
    (tmp_path / "cells.yaml").unlink()
    with pytest.raises(InvalidChoice, match="Cells would be declared in"):
        here.states("sul")
