"""How far a model is followed, and who decided a message."""

from __future__ import annotations

from typing import Literal

Mode = Literal["off", "shadow", "canary", "on"]
"""`off`: not asked. `shadow`: it decides and the decision is noted, the rules are obeyed. `canary`: obeyed for a share
of the messages, by a hash of their ids. `on`: obeyed for all but the explored share."""

Decided = Literal["rules", "learned", "explored"]
"""`explored`: the model was asked to decide and left the message to the rules, to compare."""
