"""The platform's program, run for a preview, and the policy pack."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import ALL_MODULES
from tests.support.handlers import Recording
from tests.support.policy_pack import Site
from tests.support.project import Project, tenant

# The program is run in this process; its config has no secret, and a state of its own is never written.
os.environ.setdefault("PULUMI_CONFIG_PASSPHRASE", "a test's own")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A platform with a tenant of every module and a suspended one, both in the base."""
    acme, beta = tenant("acme", *ALL_MODULES), tenant("beta", "crm", plan="basic", status="suspended")
    return Site(Project.platform(tmp_path / "project", acme, beta))


@pytest.fixture
def registrations(site: Site) -> list[Recording]:
    return site.registrations()
