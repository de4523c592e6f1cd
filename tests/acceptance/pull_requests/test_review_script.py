"""The review script of `preview.yml`, in a repository as CI checks it out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kryonix.review.report import LONGEST_COMMENT, MARKER
from tests.support.checkout import Checkout
from tests.support.project import Project, tenant


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    project = Project(tmp_path / "project", "dev")
    project.tenants(tenant("acme", "crm", "financeiro"), tenant("beta", "crm"))
    return Checkout(project)


def test_a_harmless_change_passes_and_writes_its_report(checkout: Checkout) -> None:
    base = checkout.commit()
    checkout.project.tenants(tenant("acme", "crm", "financeiro"), tenant("beta", "crm", "whatsapp"))
    checkout.commit()
    done = checkout.script("review", base, "report")
    assert done.returncode == 0, done.stderr
    report = (checkout.folder / "report" / "report.md").read_text()
    assert done.stdout == report
    assert report.startswith(MARKER)
    assert "beta" in report
    assert (checkout.folder / "report" / "full.md").read_text().startswith(MARKER)


def test_a_blocked_change_exits_with_the_guardrails_status_and_a_report(checkout: Checkout) -> None:
    base = checkout.commit()
    checkout.project.tenants(tenant("acme", "crm", "financeiro"))
    checkout.commit()
    assert checkout.script("review", base, "report").returncode == 11
    assert "tenant-removed" in (checkout.folder / "report" / "report.md").read_text()
    entry = {"guardrail": "tenant-removed", "tenant": "beta", "object": "beta", "reason": "contract ended"}
    checkout.write("accepted-changes.yaml", yaml.safe_dump({"accepted": [entry]}))
    checkout.commit()
    assert checkout.script("review", base).returncode == 0


def test_the_report_names_an_unreadable_tenant_list(checkout: Checkout) -> None:
    base = checkout.commit()
    checkout.project.write("tenants.yaml", "tenants: [{id: acme, modules: [crn], plan: pro}]\n")
    done = checkout.script("review", base, "report")
    assert done.returncode == 2
    assert "did you mean" in (checkout.folder / "report" / "report.md").read_text()


def test_the_report_of_a_change_to_everything_fits_a_comment(checkout: Checkout) -> None:
    names = [f"tenant-{number:03}" for number in range(150)]
    checkout.project.tenants(*(tenant(name, "crm") for name in names))
    base = checkout.commit()
    modules = ("whatsapp", "agendamento", "financeiro", "marketing", "analytics", "portal", "whitelabel")
    checkout.project.tenants(*(tenant(name, modules[at % 7]) for at, name in enumerate(names)))
    assert checkout.script("review", base, "report").returncode == 10
    assert (checkout.folder / "report" / "report.md").stat().st_size <= LONGEST_COMMENT
