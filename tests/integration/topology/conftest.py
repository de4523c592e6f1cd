"""Tenants under test: the platform's own, and some created beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.support.amqp import Account, Application, administrator
from tests.support.project import ROOT, Project, tenant

CATALOG = ROOT / "kryonix" / "topology" / "catalog.yaml"

Change = Callable[[dict[str, Any]], None]


def write_catalog(project: Project, name: str, change: Change) -> str:
    """The product catalog with something changed, as a file in the project's folder; its name."""
    document = yaml.safe_load(CATALOG.read_text())
    change(document)
    project.write(name, yaml.safe_dump(document, sort_keys=False))
    return name


@pytest.fixture(scope="session")
def outputs(platform: Project) -> dict[str, Any]:
    return platform.outputs()


@pytest.fixture(scope="session")
def admin(outputs: dict[str, Any]) -> Account:
    return administrator(outputs)


@pytest.fixture
def acme(outputs: dict[str, Any]) -> Iterator[Application]:
    """All modules, on the enterprise plan."""
    yield from emptied(Application.of(outputs, "acme"))


@pytest.fixture
def beta(outputs: dict[str, Any]) -> Iterator[Application]:
    """crm and financeiro, on the basic plan."""
    yield from emptied(Application.of(outputs, "beta"))


@pytest.fixture
def lab(lab_made: Application) -> Iterator[Application]:
    """Plan basic: 47 queues, a lane `high` for crm's leads.create, retries after 1 s and then 2 s at most."""
    yield from emptied(lab_made)


@pytest.fixture
def oldstyle(oldstyle_made: Application) -> Iterator[Application]:
    """portal and whitelabel, neither with AI routing; retry queues instead of the broker's own delayed retry."""
    yield from emptied(oldstyle_made)


@pytest.fixture(scope="session")
def lab_made(platform: Project) -> Application:
    def change(catalog: dict[str, Any]) -> None:
        catalog["retry"] |= {"first_delay": "1s", "max_delay": "2s", "limit": 3}
        catalog["modules"]["crm"]["priority_lanes"] = {"leads.create": ["high"]}

    return made(platform, change, tenant("lab", "crm", "whatsapp", "agendamento", "portal", plan="basic"))


@pytest.fixture(scope="session")
def oldstyle_made(platform: Project) -> Application:
    def change(catalog: dict[str, Any]) -> None:
        catalog["retry"] |= {"strategy": "queues", "first_delay": "1s", "limit": 2}

    return made(platform, change, tenant("oldstyle", "portal", "whitelabel"))


def made(platform: Project, change: Change, entry: dict[str, Any]) -> Application:
    """A tenant with a catalog of its own. It goes with the platform."""
    id = entry["id"]
    file = write_catalog(platform, f"catalog-{id}.yaml", change)
    stack = platform.beside(f"tenant-{id}", tenant=entry, catalogFile=file)
    stack.must("up")
    return Application.of(stack.administered(), id)


def emptied(application: Application) -> Iterator[Application]:
    """The tenant, and after the test no message in its queues."""
    yield application
    asyncio.run(application.empty())
