"""A project in a temporary folder, with a changeable service."""

from __future__ import annotations

import pytest

from tests.support.engine_testbed import testbed

__all__ = ["testbed"]


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a passphrase")
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("KRYONIX_STATE_DIR", raising=False)
    monkeypatch.setattr("kryonix.engines.local.secrets.ROUNDS", 10)  # the real number takes half a second each time
