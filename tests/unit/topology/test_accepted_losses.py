from __future__ import annotations

import pytest

from kryonix.topology.accepted_losses import too_wide


@pytest.mark.parametrize("entry", ["*", "cliente_*", "cliente_acme*", "cliente_*.crm.leads.create", "acme.*", "**"])
def test_an_entry_that_could_reach_beyond_one_tenant_is_too_wide(entry: str) -> None:
    assert too_wide(["cliente_acme.crm.leads.create", entry]) == [entry]


@pytest.mark.parametrize("entry", ["cliente_acme.*", "cliente_acme.*.dlq", "cliente_acme.crm.*", "any.queue"])
def test_an_entry_of_one_tenant_is_not(entry: str) -> None:
    assert too_wide([entry]) == []
