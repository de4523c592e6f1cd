"""The CLI does not recreate stacks of the local engine."""

from __future__ import annotations

import pytest

from kryonix.engines.choice import refuse_begun_locally
from kryonix.engines.errors import BegunLocally
from tests.support.engine_testbed import EngineTestbed, testbed

__all__ = ["testbed"]


@pytest.mark.parametrize("name", ["dev", "organization/demo/dev"])
def test_a_local_stack_needs_a_takeover_first(
    testbed: EngineTestbed, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a passphrase")
    testbed.up('Thing("a")')
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    with pytest.raises(BegunLocally, match="'dev' was made by the local engine") as caught:
        refuse_begun_locally(testbed.folder, name)
    assert "kryonix export --stack dev --engine local > deployment.json" in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_new_or_destroyed_stack_needs_no_takeover(testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_begun_locally(testbed.folder, "dev")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a passphrase")
    testbed.up('Thing("a")')
    with pytest.raises(BegunLocally):
        refuse_begun_locally(testbed.folder, "dev")
    testbed.stack().destroy()
    refuse_begun_locally(testbed.folder, "dev")
