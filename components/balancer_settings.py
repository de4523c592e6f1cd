"""BalancerSettings: the config of the balancer before a broker's nodes."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, kw_only=True)
class BalancerSettings:
    """HAProxy's image, and its published port."""

    image: str
    port: int = 5670

    @classmethod
    def load(cls, config: pulumi.Config) -> BalancerSettings | None:
        """Return the stack's settings, None where there is no balancer."""
        if not config.require_bool("balancer"):
            return None
        return cls(image=config.require("balancerImage"), port=config.require_int("balancerPort"))
