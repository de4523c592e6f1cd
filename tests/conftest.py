"""Shared fixtures of integration and acceptance tests: real services. A missing service is an error."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.project import Project, tenant

# A shell starts background jobs with SIGINT ignored, and SIGTERM ends Python at once: either has to end the run in
# order, so that fixtures remove the containers they made.
for _number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(_number, signal.default_int_handler)

# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("kryonix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kryonix")

ALL_MODULES = ("crm", "whatsapp", "agendamento", "financeiro", "marketing", "analytics", "portal", "whitelabel")


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform that is up, with `acme` (all modules) and `beta` (basic). Tests leave both as they are."""
    project = Project.platform(
        tmp_path_factory.mktemp("platform") / "project",
        tenant("acme", *ALL_MODULES),
        tenant("beta", "crm", "financeiro", plan="basic"),
    )
    try:
        project.must("up")
        yield project
    finally:
        project.remove()
