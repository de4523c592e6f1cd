"""Each guardrail blocks a change until the change accepts the finding."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from kryonix.review.guardrails import Guardrail
from tests.support.project import ROOT
from tests.support.review_kinds import KINDS, TENANTS
from tests.support.review_repository import Repository

BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Harm:
    """A kind of change that a guardrail blocks, with its acceptance."""

    guardrail: str
    status: int
    kind: str
    objects: int
    """How many objects are found."""


HARMS = (
    Harm("queue-lost", 10, "module-removed", 10),
    Harm("queue-lost", 10, "code-expansion", 64),
    Harm("tenant-removed", 11, "tenant-removed", 1),
    Harm("plan-does-not-fit", 12, "plan-down-that-does-not-fit", 1),
    Harm("permission-widened", 13, "code-permissions", 4),
    Harm("secret-in-plain-text", 14, "secret-in-plain-text", 1),
    Harm("limit-lifted", 15, "catalog-limit-raised", 2),
)


def suggested(report: str) -> str:
    """The entries that the report offers to copy."""
    return report.split("```yaml\n", 1)[1].split("```", 1)[0]


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: f"{harm.guardrail}-{harm.kind}")
def test_a_harmful_change_blocks_until_the_change_accepts_it(repository: Repository, harm: Harm) -> None:
    BY_NAME[harm.kind].make(repository)
    held = repository.review()
    assert held.returncode == harm.status
    assert f"`{harm.guardrail}` × {harm.objects}" in held.stdout

    repository.write("accepted-changes.yaml", suggested(held.stdout))
    repository.commit("it is meant")
    meant = repository.review()
    assert meant.returncode == 0, meant.stderr
    assert "⛔" not in meant.stdout
    assert "Accepted in this change" in meant.stdout
    assert "write why this is intended" in meant.stdout

    # What stood in the base says nothing about a change made after it.
    repository.git("checkout", "--quiet", "-B", "main", "base")
    repository.write("accepted-changes.yaml", suggested(held.stdout))
    repository.commit("an earlier change said yes")
    repository.git("tag", "--force", "base")
    repository.git("tag", "--force", "earlier")
    again = BY_NAME[harm.kind]
    again.head(repository)
    repository.commit("the same harm again")
    spent = repository.review()
    assert spent.returncode == harm.status
    assert "is from an earlier change and has no effect" in spent.stdout


def test_accepting_one_of_two_findings_leaves_the_others_status(list_only: Repository) -> None:
    kept = [
        {**entry, "modules": ["crm"]} if entry["id"] == "beta" else entry for entry in TENANTS if entry["id"] != "delta"
    ]
    list_only.tenants(*kept)
    assert list_only.review().returncode == 16
    list_only.accept({"guardrail": "tenant-removed", "tenant": "delta", "object": "delta", "reason": "left us"})
    assert list_only.review().returncode == 10
    list_only.accept({"guardrail": "queue-lost", "tenant": "beta", "object": "cliente_beta.*", "reason": "not used"})
    assert list_only.review().returncode == 11


def test_the_json_names_every_finding_and_its_reason(list_only: Repository) -> None:
    list_only.tenants(*TENANTS[1:])
    found = list_only.kryonix("plan", "--against", "base", "--json")
    assert found.returncode == 11
    review = json.loads(found.stdout)["review"]
    assert [(each["guardrail"], each["tenant"]) for each in review["blocking"]] == [("tenant-removed", "acme")]
    assert (review["exit_status"], review["queues_lost"]) == (11, 57)
    assert review["capacity"]["acme"]["before"]["queues"] == 57
    list_only.accept({"guardrail": "tenant-removed", "tenant": "acme", "object": "acme", "reason": "left us"})
    review = json.loads(list_only.kryonix("plan", "--against", "base", "--json").stdout)["review"]
    assert [(each["object"], each["reason"]) for each in review["accepted"]] == [("acme", "left us")]


def test_the_table_shows_the_blocking_findings_and_the_losses(list_only: Repository) -> None:
    list_only.tenants(*TENANTS[1:], {**TENANTS[0], "plan": "pro"})
    shown = list_only.kryonix("plan", "--against", "base")
    assert shown.returncode == 0
    assert "enterprise → pro" in shown.stdout
    assert "57 of 500 → 57 of 200" in shown.stdout
    assert "max_connections 100 → 50" in shown.stdout
    list_only.tenants(*TENANTS[1:])
    shown = list_only.kryonix("plan", "--against", "base", "--format", "table")
    assert shown.returncode == 11
    assert "loses its messages" in shown.stdout
    assert "blocked: tenant-removed: tenant 'acme' acme" in shown.stderr
    assert shown.stderr.splitlines()[-1] == "Blocked by tenant-removed × 1 (exit status 11)"


def test_guardrails_can_be_disabled_for_a_revision_and_enabled_for_a_file(list_only: Repository) -> None:
    list_only.write("before.yaml", list_only.read("tenants.yaml"))
    list_only.tenants(*TENANTS[1:])
    left_out = list_only.review("--no-guard")
    assert left_out.returncode == 0
    assert "The guardrails were not checked" in left_out.stdout
    assert list_only.review(against="before.yaml").returncode == 0
    assert list_only.review("--guard", against="before.yaml").returncode == 11


def test_an_invalid_acceptance_file_is_refused_with_its_line(list_only: Repository) -> None:
    list_only.write("accepted-changes.yaml", "accepted:\n  - {guardrail: queue-lsot, object: x, reason: meant}\n")
    refused = list_only.review()
    assert refused.returncode == 2
    assert "accepted-changes.yaml:2" in refused.stderr
    assert "did you mean <code>queue-lost</code>" in refused.stdout


def test_a_secret_is_located_and_never_shown(list_only: Repository) -> None:
    secret = "s3cr3t-of-nobody"
    list_only.write("notes.yaml", "a: 1\nb: 2\nc: 3\n")
    list_only.commit()
    list_only.git("tag", "--force", "base")
    list_only.write("notes.yaml", f"a: 1\n+++ b/other: 4\nb: 2\npassword: {secret}\nc: 3\n")
    list_only.write("with space é.yaml", f"token: {secret}\n")
    list_only.commit()
    list_only.write("untracked.env", f"DB_PASSWORD={secret}\n")
    for shape in ("markdown", "table", "json"):
        found = list_only.kryonix("plan", "--against", "base", "--format", shape)
        assert found.returncode == 14
        assert secret not in found.stdout + found.stderr
    blocking = json.loads(found.stdout)["review"]["blocking"]
    assert {each["object"]: each["message"].split(" has a")[0] for each in blocking} == {
        "notes.yaml password": "line 4",
        "with space é.yaml token": "line 1",
        "untracked.env DB_PASSWORD": "line 1",
    }


def test_a_secret_of_the_base_or_a_removed_one_is_not_reported(list_only: Repository) -> None:
    list_only.write("notes.yaml", "password: s3cr3t-of-nobody\nother: 1\n")
    list_only.commit()
    list_only.git("tag", "--force", "base")
    list_only.write("notes.yaml", "password: s3cr3t-of-nobody\nother: 2\n")
    assert list_only.review().returncode == 0
    list_only.write("notes.yaml", "other: 2\n")
    assert list_only.review().returncode == 0


def test_the_example_of_the_documentation_is_accepted(list_only: Repository) -> None:
    page = (ROOT / "docs/reviewing.md").read_text()
    example = next(block for block in page.split("```yaml\n")[1:] if "accepted:" in block).split("```", 1)[0]
    list_only.write("accepted-changes.yaml", example)
    list_only.tenants(*TENANTS[1:])
    assert list_only.review().returncode == 0


def test_the_documentation_names_every_guardrail_with_its_exit_status() -> None:
    page = (ROOT / "docs/reviewing.md").read_text()
    for guardrail in Guardrail:
        assert f"| `{guardrail.label}` | {guardrail.exit_status} |" in page
