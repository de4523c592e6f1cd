"""Random values, made once and kept in the state: passwords, bytes and ids."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from kryonix.engines.local.errors import InvalidInputs
from kryonix.engines.local.handlers.base import UNKNOWN, Live, Properties
from kryonix.engines.local.handlers.fields import Field, Fields, Kind
from kryonix.engines.local.handlers.resource import HandlerTable, Resource

__all__ = ["RandomBytes", "RandomId", "RandomPassword", "password", "provider"]

SPECIAL: Final = "!@#$%&*()-_=+[]{}<>:?"
NO_ID: Final = "none"


def provider() -> HandlerTable:
    """The handlers of package random."""
    return HandlerTable.of("random", [RandomPassword(), RandomBytes(), RandomId()])


class _Random(Resource):
    """Something that exists in the state only."""

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return {**old_outputs, **new_inputs}

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        return Live(id, dict(inputs), dict(outputs))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        pass


def _flag(default: bool = True) -> Field:
    return Field(kind=Kind.FLAG, default=default, replaces=True)


def _count(default: int = 0) -> Field:
    return Field(kind=Kind.WHOLE, default=default, replaces=True)


_KEEPERS: Final = Field(kind=Kind.TEXT_MAP, replaces=True)


class RandomPassword(_Random):
    """A password. The provider plugin's `bcryptHash` is left out; nothing of Pulumi's asks for it."""

    pulumi_type = "random:index/randomPassword:RandomPassword"
    secret_outputs = frozenset({"result", "bcryptHash"})
    fields: ClassVar[Fields] = {
        "length": Field(kind=Kind.WHOLE, required=True, replaces=True),
        "keepers": _KEEPERS,
        "lower": _flag(),
        "upper": _flag(),
        "numeric": _flag(),
        "special": _flag(),
        "minLower": _count(),
        "minUpper": _count(),
        "minNumeric": _count(),
        "minSpecial": _count(),
        "overrideSpecial": Field(replaces=True),
    }

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        # `number` is the old name of `numeric`.
        numeric = new.get("numeric", new.get("number"))
        values = super().check(
            old, {key: value for key, value in new.items() if key != "number"} | {"numeric": numeric}
        )
        if UNKNOWN in values.values():
            return values
        least = sum(values[name] for name in ("minLower", "minUpper", "minNumeric", "minSpecial"))
        if values["length"] < max(least, 1):
            raise InvalidInputs(
                f"{self.pulumi_type}: `length` is {values['length']}; it must be at least {max(least, 1)}"
            )
        if not any(values[name] for name in ("lower", "upper", "numeric", "special")):
            raise InvalidInputs(f"{self.pulumi_type}: one of `lower`, `upper`, `numeric` and `special` must be true")
        return values

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        return NO_ID, {**inputs, "number": inputs["numeric"], "result": password(inputs)}


def password(inputs: Properties) -> str:
    """A new password with the classes and minimums of a RandomPassword's inputs."""
    classes = {
        "Lower": string.ascii_lowercase,
        "Upper": string.ascii_uppercase,
        "Numeric": string.digits,
        "Special": inputs.get("overrideSpecial") or SPECIAL,
    }
    every = "".join(letters for name, letters in classes.items() if inputs[name.lower()])
    chosen = [secrets.choice(letters) for name, letters in classes.items() for _ in range(inputs[f"min{name}"])]
    chosen += [secrets.choice(every) for _ in range(inputs["length"] - len(chosen))]
    secrets.SystemRandom().shuffle(chosen)
    return "".join(chosen)


class RandomBytes(_Random):
    """Secret bytes. The provider plugin makes their base64 the id, where no secret belongs; here it is `none`."""

    pulumi_type = "random:index/randomBytes:RandomBytes"
    secret_outputs = frozenset({"base64", "hex"})
    fields: ClassVar[Fields] = {"length": Field(kind=Kind.WHOLE, required=True, replaces=True), "keepers": _KEEPERS}

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        value = secrets.token_bytes(inputs["length"])
        return NO_ID, {**inputs, "base64": base64.b64encode(value).decode(), "hex": value.hex()}


class RandomId(_Random):
    """A random id, not secret. Its id is its base64 form, for URLs."""

    pulumi_type = "random:index/randomId:RandomId"
    fields: ClassVar[Fields] = {
        "byteLength": Field(kind=Kind.WHOLE, required=True, replaces=True),
        "keepers": _KEEPERS,
        "prefix": Field(replaces=True),
    }

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        value = secrets.token_bytes(inputs["byteLength"])
        prefix = inputs.get("prefix", "")
        url = base64.urlsafe_b64encode(value).decode().rstrip("=")
        forms = {
            "b64Std": base64.b64encode(value).decode(),
            "b64Url": url,
            "dec": str(int.from_bytes(value, "big")),
            "hex": value.hex(),
        }
        return url, {**inputs, **{name: prefix + form for name, form in forms.items()}}
