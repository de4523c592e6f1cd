"""A registry container shared by the package. Without Docker the tests fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.signup.conftest import registry, server

__all__ = ["registry", "server"]


@pytest.fixture(scope="module")
def counted_at_once() -> Iterator[None]:
    """Count messages without waiting for the queues' next report: where it matters, a test waits for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kryonix.backup.rollback.COUNTS_AGE_S", 0)
        yield
