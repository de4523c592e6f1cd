"""Digests of tenants' stacks: what makes another one, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kryonix.engines.engine import StackSpec
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rows import TenantRow
from kryonix.tenants.digests import Digests
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.cells import Cell, Cells
from kryonix.topology.notify import Notify
from tests.support.fake_engine import FakeEngine

NOW = datetime.now(UTC)
STATE = DesiredState(cliente_id="acme", modules=("crm",), plan="basic")
ROW = TenantRow(
    cliente_id="acme",
    vhost="/cliente_acme",
    modulos=("crm",),
    plano="basic",
    status="ativo",
    username="kryonix_acme",
    password_hash="a hash",
)
OUTPUTS = {
    "management_url": "http://broker:15672",
    "management_urls": ["http://broker:15672"],
    "admin_username": "kryonix_admin",
    "admin_password": "a password",
    "amqp_host": "broker",
    "amqp_port": 5672,
    "amqp_addresses": ["broker:5672"],
    "ca_certificate": "",
    "client_authority": None,
    "registry_dsn": "postgresql://writer:secret@db/kryonix",
    "metrics_password": "another",
    "tenants": {},
}


class Engine(FakeEngine):
    def __init__(self) -> None:
        super().__init__()
        self.program = "one"
        self.platform: dict[str, Any] = dict(OUTPUTS)
        self.state = "a mark"

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        return self.platform

    def marks(self, names: Collection[str]) -> dict[str, str]:
        return dict.fromkeys(names, self.state)

    def program_digest(self) -> str:
        return self.program


def digest(
    state: DesiredState = STATE,
    row: TenantRow | None = ROW,
    change: Callable[[Engine], object] = lambda engine: None,
    *,
    catalog: Catalog | None = None,
    protection: bool = True,
    **cell: Any,
) -> str:
    """Return the digest of the tenant's stack as it would be after a run now."""
    engine = Engine()
    change(engine)
    cells = Cells(cells={name: Cell(platform="organization/kryonix/dev", **cell) for name in ("main", "other")})
    digests = Digests(engine, cells, catalog or default_catalog(), deletion_protection=protection)
    return digests.digest(digests.source(state), digests.mark("acme"), row)


@pytest.mark.parametrize(
    "changed",
    [
        {"modules": ("crm", "portal")},
        {"plan": "pro"},
        {"status": "suspended"},
        {"cell": "other"},
        {"credentials_generation": 2},
        {"credentials_generation": 2, "retiring_generation": 1},
        {"auth": "certificate"},
    ],
)
def test_a_change_of_the_row_that_a_run_applies_changes_the_digest(changed: dict[str, Any]) -> None:
    assert digest(replace(STATE, **changed)) != digest()


def test_what_no_run_applies_leaves_the_digest_as_it_is() -> None:
    noted: dict[str, Any] = {"notify": Notify(webhook="https://hooks.example.com/a"), "remove_after": NOW}
    marked: dict[str, Any] = {"updated_at": NOW, "applied_at": NOW, "applied_generation": 1, "retiring_until": NOW}
    assert digest(replace(STATE, **noted, **marked)) == digest()
    assert digest(row=replace(ROW, notify={"webhook": "https://hooks.example.com/b"})) == digest()
    assert digest(max_queues=100, open=False) == digest(), "limits of a cell are for placing"
    unread = {"metrics_password": "new", "tenants": {"beta": {}}}
    assert digest(change=lambda engine: engine.platform.update(unread)) == digest()


@pytest.mark.parametrize("output", sorted(OUTPUTS.keys() - {"metrics_password", "tenants"}))
def test_every_output_of_the_platform_that_a_stack_reads_counts(output: str) -> None:
    assert digest(change=lambda engine: engine.platform.update({output: "new"})) != digest()


def test_addresses_that_only_applications_use_count() -> None:
    public = {"advertised": {"amqp_host": "public.example.com"}}
    assert digest(change=lambda engine: engine.platform.update(public)) != digest()


def test_program_catalog_cell_and_protection_count() -> None:
    catalog = default_catalog()
    smaller = catalog.model_copy(update={"plans": dict(list(catalog.plans.items())[:2])})
    others = {
        digest(),
        digest(change=lambda engine: setattr(engine, "program", "two")),
        digest(catalog=smaller),
        digest(protect=True),
        digest(registry="organization/kryonix/central"),
        digest(protection=False),
    }
    assert len(others) == 6


def test_a_state_or_rows_changed_from_outside_change_the_digest() -> None:
    others = {
        digest(),
        digest(change=lambda engine: setattr(engine, "state", "another mark")),
        digest(row=replace(ROW, password_hash="another hash")),
        digest(row=replace(ROW, status="suspenso")),
        digest(row=None),
    }
    assert len(others) == 5


def test_a_digest_shows_no_secret() -> None:
    found = digest()
    assert len(found) == 2 * 64
    assert not any(str(secret) in found for secret in ("a hash", "a password", "secret"))
