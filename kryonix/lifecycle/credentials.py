"""What a customer's applications log in with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Credentials"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A tenant's current user. It is handed out once, by what made it, and nowhere kept in the clear."""

    vhost: str
    username: str
    password: str = field(repr=False)
    amqp_uri: str = field(repr=False)

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> Credentials:
        """From a tenant's entry in its stack's outputs."""
        return cls(**{name: outputs[name] for name in ("vhost", "username", "password", "amqp_uri")})
