"""A registry container shared by the package. Without Docker the tests fail."""

from __future__ import annotations

from tests.integration.signup.conftest import registry, server

__all__ = ["registry", "server"]
