"""One version number: of the package, the command, the SDK's header, the HTTP API and the changelog."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from typer.testing import CliRunner

from kryonix import __version__, messaging
from kryonix.cli.app import app
from kryonix.messaging import MemoryBroker
from kryonix.signup.service import build_service
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import single_cell
from tests.support.project import ROOT

pytestmark = pytest.mark.anyio


async def test_every_version_number_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "kryonix.__version__"}
    assert messaging.__version__ == __version__
    assert CliRunner().invoke(app, ["--version"]).output == f"kryonix {__version__}\n"
    service = build_service("postgresql://nobody:x@127.0.0.1:1/none", default_catalog(), single_cell("dev"))
    assert service.openapi()["info"]["version"] == __version__
    async with await MemoryBroker("acme").connect() as client:
        await client.crm.send("leads.create", {})
        async with client.crm.stream("leads.create") as stream, await anext(aiter(stream)) as message:
            assert message.headers["kryonix-sdk-version"] == __version__


def test_the_typescript_package_has_the_same_version() -> None:
    """A test of its own compares the version in the package's source with that of the package."""
    package = json.loads((ROOT / "sdk/typescript/package.json").read_text())
    assert package["version"] == __version__


def test_the_changelog_names_the_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", __version__]
