"""Retries: which errors, how often, and when."""

from __future__ import annotations

import pytest

from kryonix.engines.errors import EngineFailed, LifecycleError, OperationDied
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.errors import RegistryRefused, RegistryUnavailable
from kryonix.signup.executor import attempts_for, pause_after
from kryonix.tenants.errors import TenantBusy, UnknownTenant


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (BrokerUnavailable("does not answer"), 10),
        (RegistryUnavailable("does not answer"), 10),
        (TenantBusy("acme"), 10),
        (EngineFailed("connection refused", 3), 10),
        (OperationDied("tenant-acme", "was ended by SIGKILL"), 10),
        (EngineFailed("the broker answered 400", 1), 3),
        (RegistryRefused("no such table"), 3),
        (UnknownTenant("acme"), 1),
        (EngineFailed("tenants: can't be", 2), 1),
        (KeyError("a defect"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_only_temporary_errors_are_retried(error: LifecycleError, attempts: int) -> None:
    assert attempts_for(error) == attempts


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [pause_after(attempt).total_seconds() for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 30, 30, 30]
