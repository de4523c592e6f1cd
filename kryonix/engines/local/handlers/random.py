"""Random passwords, made once and kept in the state."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from kryonix.engines.local.errors import InvalidInputs
from kryonix.engines.local.handlers.base import UNKNOWN, LiveResource, Properties
from kryonix.engines.local.handlers.fields import Field, Fields, HandlerTable, Kind, TableHandler

ALPHANUMERIC: Final = string.ascii_letters + string.digits
SPECIAL: Final = "!@#$%&*()-_=+[]{}<>:?"


def provider() -> HandlerTable:
    """Return the handlers of package random."""
    return HandlerTable.of([RandomPasswordHandler()])


def _fixed(kind: Kind, default: Any) -> Field:
    return Field(kind=kind, default=default, replaces=True, fixed=True)


class RandomPasswordHandler(TableHandler):
    """A password of letters, digits and special characters, without the provider plugin's `bcryptHash`."""

    pulumi_type = "random:index/randomPassword:RandomPassword"
    secret_outputs = frozenset({"result", "bcryptHash"})
    fields: ClassVar[Fields] = {
        "length": Field(kind=Kind.WHOLE, required=True, replaces=True),
        "special": Field(kind=Kind.FLAG, default=True, replaces=True),
        "keepers": Field(kind=Kind.TEXT_MAP, replaces=True),
        **dict.fromkeys(("lower", "upper", "numeric"), _fixed(Kind.FLAG, True)),
        **dict.fromkeys(("minLower", "minUpper", "minNumeric", "minSpecial"), _fixed(Kind.WHOLE, 0)),
    }

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        if values["length"] is not UNKNOWN and values["length"] < 1:
            raise InvalidInputs(f"{self.pulumi_type}: `length` is {values['length']}; it must be at least 1")
        return values

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
