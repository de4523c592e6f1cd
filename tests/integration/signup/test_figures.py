"""The exporter's figures of operations, on a real registry."""

from __future__ import annotations

from uuid import uuid4

from kryonix.signup.figures import operation_figures
from tests.integration.signup.conftest import WRITER, Registry


def ended(registry: Registry, tenant: str, kind: str, status: str, *, days: int = 0, request: str = "{}") -> None:
    registry.query(
        "INSERT INTO signup.operations (id, tenant, kind, request, status, created_at, ended_at) VALUES "
        "(%s, %s, %s, %s, %s, now() - make_interval(days => %s), "
        "CASE WHEN %s IN ('queued', 'running') THEN NULL ELSE now() - make_interval(days => %s) END)",
        uuid4(), tenant, kind, request, status, days, status, days,
    )  # fmt: skip


def figures(registry: Registry) -> dict[tuple[str, ...], float]:
    """Return the values by name and labels, without operations of a kind that never ended."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in operation_figures(registry.dsn())
        for sample in family.samples
        if sample.value or sample.name != "kryonix_operations_total"
    }


def test_the_count_of_operations_never_falls(registry: Registry) -> None:
    ended(registry, "acme", "create", "succeeded", days=40)
    ended(registry, "acme", "change", "failed", days=40)
    ended(registry, "acme", "change", "succeeded", days=40, request='{"converge": true}')
    ended(registry, "acme", "change", "failed")
    ended(registry, "acme", "rotate", "running")
    before = {key: value for key, value in figures(registry).items() if key[0] == "kryonix_operations_total"}
    assert before == {
        ("kryonix_operations_total", "create", "succeeded"): 1,
        ("kryonix_operations_total", "change", "failed"): 2,
        ("kryonix_operations_total", "converge", "succeeded"): 1,
    }
    for _ in range(2):
        registry.query(
            "DELETE FROM signup.operations WHERE ended_at < now() - interval '30 days'", role="kryonix_signup"
        )
        assert before.items() <= figures(registry).items()
    ended(registry, "beta", "change", "failed", days=40)
    registry.query("DELETE FROM signup.operations WHERE tenant = 'beta'", role="kryonix_signup")
    assert figures(registry)["kryonix_operations_total", "change", "failed"] == 3


def test_every_kind_and_outcome_begins_at_0(registry: Registry) -> None:
    total, _ = operation_figures(registry.dsn())
    found = {tuple(sample.labels.values()): sample.value for sample in total.samples if sample.name.endswith("_total")}
    assert found["settle", "failed"] == 0
    assert len(found) == 18


def test_a_tenants_newest_operation_tells_if_it_failed(registry: Registry) -> None:
    ended(registry, "acme", "create", "succeeded", days=2)
    ended(registry, "acme", "change", "failed", days=1)
    ended(registry, "beta", "change", "failed", days=2)
    ended(registry, "beta", "suspend", "succeeded", days=1)
    ended(registry, "gone", "remove", "succeeded")
    found = {key[1:]: value for key, value in figures(registry).items() if key[0] == "kryonix_tenant_operation_failed"}
    assert found == {("acme", "change"): 1, ("beta", "suspend"): 0}
    ended(registry, "acme", "change", "queued")
    found = {key[1:]: value for key, value in figures(registry).items() if key[0] == "kryonix_tenant_operation_failed"}
    assert found["acme", "change"] == 0


def test_the_registrys_writer_reads_no_operations(registry: Registry) -> None:
    assert registry.query("SELECT has_table_privilege(%s, 'signup.forgotten_operations', 'SELECT') AS may", WRITER) == [
        {"may": False}
    ]
