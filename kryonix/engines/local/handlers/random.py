"""Random passwords, made once and kept in the state."""

from __future__ import annotations

import secrets
import string
from typing import ClassVar, Final

from kryonix.engines.local.handlers.base import LiveResource, Properties
from kryonix.engines.local.handlers.fields import Field, Fields, HandlerTable, Kind, TableHandler

ALPHANUMERIC: Final = string.ascii_letters + string.digits
SPECIAL: Final = "!@#$%&*()-_=+[]{}<>:?"


def provider(config: Properties) -> HandlerTable:
    """Return the handlers of package random."""
    return HandlerTable([RandomPasswordHandler()])


class RandomPasswordHandler(TableHandler):
    """A password of letters, digits and special characters, without the provider plugin's `bcryptHash`."""

    pulumi_type = "random:index/randomPassword:RandomPassword"
    secret_outputs = frozenset({"result", "bcryptHash"})
    fields: ClassVar[Fields] = {
        "length": Field(kind=Kind.WHOLE, required=True, replaces=True),
        "special": Field(kind=Kind.FLAG, default=True, replaces=True),
    }
    constants: ClassVar[Properties] = {
        **dict.fromkeys(("lower", "upper", "numeric"), True),
        **dict.fromkeys(("minLower", "minUpper", "minNumeric", "minSpecial"), 0),
    }

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        letters = ALPHANUMERIC + (SPECIAL if inputs["special"] else "")
        result = "".join(secrets.choice(letters) for _ in range(inputs["length"]))
        return "none", {**inputs, "number": inputs["numeric"], "result": result}

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return {**old_outputs, **new_inputs}

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        return LiveResource(id, dict(inputs), dict(outputs))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        """Nothing exists outside the state."""
