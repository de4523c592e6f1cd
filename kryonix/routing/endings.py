"""How an attempt to handle a message ends."""

from __future__ import annotations

from typing import Literal

Became = Literal["done", "retried", "dead", "expired"]
