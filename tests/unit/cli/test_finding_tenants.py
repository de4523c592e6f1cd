"""`--stack S --tenant X` of the messages' commands: X is found whatever manages it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kryonix.cli import connection, site
from kryonix.cli.connection import tenant_outputs
from kryonix.engines.engine import StackSpec
from kryonix.errors import InvalidChoice
from kryonix.tenants.errors import NoCredentials

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

    def outputs(self, stack: StackSpec) -> dict[str, Any]:
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
