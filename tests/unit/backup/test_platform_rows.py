"""Rows that a restore of a platform adds."""

from __future__ import annotations

from kryonix.backup.platform_reading import MODELS, RegistryRows
from kryonix.backup.platform_restoring import lacking_rows
from kryonix.registry.tables import Rows, Table

CONFIGURATIONS = "tenants.rabbitmq_configurations"
TABLES = {
    CONFIGURATIONS: Table(CONFIGURATIONS, ("cliente_id", "status"), ("cliente_id",)),
    MODELS: Table(MODELS, ("cliente_id", "version"), ("cliente_id", "version")),
}
MODEL = {"cliente_id": "acme", "version": "0123456789ab"}
WAS: Rows = {CONFIGURATIONS: [{"cliente_id": "acme", "status": "ativo"}], MODELS: [MODEL]}


def lacking(now: Rows | None) -> Rows:
    return lacking_rows(WAS, None if now is None else RegistryRows(TABLES, now, "0011"))


def test_a_lost_registry_gets_all_rows() -> None:
    assert lacking(None) == WAS


def test_a_tenants_lost_models_come_back() -> None:
    assert lacking({CONFIGURATIONS: WAS[CONFIGURATIONS], MODELS: []}) == {MODELS: [MODEL]}


def test_a_tenant_removed_since_gets_no_models_back() -> None:
    assert lacking({CONFIGURATIONS: [{"cliente_id": "acme", "status": "removido"}], MODELS: []}) == {}


def test_rows_of_a_bundle_from_before_routing_are_added() -> None:
    was: Rows = {CONFIGURATIONS: WAS[CONFIGURATIONS]}
    assert lacking_rows(was, RegistryRows(TABLES, {CONFIGURATIONS: [], MODELS: [MODEL]}, "0011")) == was
