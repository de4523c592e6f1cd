"""Shared fixtures of integration and acceptance tests: real services. A missing service is an error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import PurePath
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from tests.support.live_broker import LiveBroker
from tests.support.project import Project, tenant

# A shell starts background jobs with SIGINT ignored, and SIGTERM ends Python at once: either has to end the run in
# order, so that fixtures remove the containers they made.
for _number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(_number, signal.default_int_handler)


def _interrupt_once(number: int, frame: object) -> None:
    """Let clean-up go on: execnet interrupts a process again that takes 5 s to end."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if "PYTEST_XDIST_WORKER" in os.environ:
    signal.signal(signal.SIGINT, _interrupt_once)

# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("kryonix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kryonix")

TOGETHER = (
    "tests/acceptance/signup",
    "tests/integration/cluster",
    "tests/integration/engines/handlers",
    "tests/integration/signup",
)
"""Folders whose files share services of their own, and so one process: each process would start them again."""

LONGEST_FIRST = (
    "signup",
    "test_cluster_nodes",
    "cluster",
    "test_tls",
    "test_faults",
    "test_platform_life",
    "test_tenants",
    "test_crashes",
    "test_cluster",
    "test_hosts",
    "test_alerts",
    "test_fleet",
    "test_typescript",
    "test_platform_restore",
    "test_drill",
    "test_removal_under_traffic",
    "test_outages",
    "test_guard",
    "test_workers",
    "test_floods",
)
"""Files and folders by name. They start first, so that no process is left with one of them at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes: see scripts/test
        order = {name: at for at, name in enumerate(LONGEST_FIRST)}
        items.sort(
            key=lambda item: order.get(_unit_of(item.nodeid).stem if "unit" not in item.path.parts else "", len(order))
        )


def _unit_of(nodeid: str) -> PurePath:
    """Return what one process runs as a whole: a test's file, or the folder of TOGETHER that it is in."""
    file = nodeid.partition("::")[0]
    return PurePath(next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a process whole files, and whole folders of TOGETHER."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return str(_unit_of(nodeid))

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failure of another process at once: pytest names it at the end, and the whole run takes long."""
    if report.failed and hasattr(report, "node"):
        sys.stderr.write(f"\nfailed: {report.nodeid}\n")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    from xdist.workermanage import NodeManager

    NodeManager.EXIT_TIMEOUT = 60  # seconds that an interrupted process has to remove its containers


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape lone surrogates, which logs may hold, and which one process can't send to another."""
    return printable((yield))


def printable(value: Any) -> Any:
    """Return a report's data with each lone surrogate escaped."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {printable(key): printable(entry) for key, entry in value.items()}
    return type(value)(map(printable, value)) if isinstance(value, list | tuple) else value


ALL_MODULES = ("crm", "whatsapp", "agendamento", "financeiro", "marketing", "analytics", "portal", "whitelabel")


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform that is up, with `acme` (all modules) and `beta` (basic). Tests leave both as they are."""
    project = Project.platform(
        tmp_path_factory.mktemp("platform") / "project",
        tenant("acme", *ALL_MODULES),
        tenant("beta", "crm", "financeiro", plan="basic"),
        receiveTime=True,
    )
    with project.running():
        SHARED.append(LiveBroker(project.outputs()))
        yield project


SHARED: list[LiveBroker] = []
_REGISTERED = "SELECT cliente_id, vhost FROM tenants.rabbitmq_configurations WHERE status <> 'removido'"


@pytest.fixture(scope="module", autouse=True)
def nothing_half_is_left() -> Iterator[None]:
    """Fail where a file leaves a tenant's rows without its vhost on the shared platform: another file finds it lost."""
    yield
    for broker in SHARED:
        there = broker.vhosts()
        with psycopg.connect(str(broker.outputs["registry_dsn"])) as connection:
            lost = [id for id, vhost in connection.execute(_REGISTERED) if vhost not in there]
        for id in lost:
            broker.forget(id)
        assert not lost, "remove a test's tenant with LiveBroker.forget"
