"""A model and its file: JSON of plain numbers that says when it has been altered."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, NoReturn

from pydantic import TypeAdapter, ValidationError

from kryonix.errors import InvalidChoice
from kryonix.routing.learned import Learned
from kryonix.routing.numbers import Number

FORMAT: Final = 1
MAX_BYTES: Final = 1_000_000
"""Of a model's file."""

_HEAD: Final = re.compile(rb'\{"hash":"([0-9a-f]{64})",')
_REMEDY: Final = "Use a file that `kryonix router train` has written"


class ModelRefused(InvalidChoice):
    """A model's file that can't be used."""


@dataclass(frozen=True, slots=True)
class Model:
    """What was learned, by action (`crm.leads.create`). `from_at` and `until_at` are the first and last message's."""

    made_at: datetime
    from_at: datetime
    until_at: datetime
    messages: int
    explore: Number
    """The share of messages that stay where the rules put them."""
    actions: Mapping[str, Learned]
    refused: Mapping[str, str]
    """Actions without a model, and why."""
    tenants: tuple[str, ...] = ()
    """Whose outcomes it learned from; empty for a file of one tenant."""
    version: str = ""
    """The beginning of the file's hash."""

    def __post_init__(self) -> None:
        if not 0 <= self.explore < 1:
            raise ValueError(f"explore {self.explore} is not 0 to below 1")


@cache
def _adapter() -> TypeAdapter[Model]:
    return TypeAdapter(Model)


def write_model(model: Model) -> tuple[bytes, str]:
    """Return a model's file, and its version."""
    fields = {name: value for name, value in asdict(model).items() if name != "version"}
    content = {"kind": "kryonix routing model", "format": FORMAT, **fields}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, default=datetime.isoformat)
    rest = text[1:].encode() + b"\n"
    digest = hashlib.sha256(rest).hexdigest()
    return b'{"hash":"' + digest.encode() + b'",' + rest, digest[:12]


def read_model(content: bytes, source: str) -> Model:
    """Return the model of a file's content. `source` names it in errors. Raises ModelRefused."""

    def refuse(problem: str, remedy: str = _REMEDY) -> NoReturn:
        raise ModelRefused(f"{source}: {problem}. {remedy}")

    if len(content) > MAX_BYTES:
        refuse(f"it is larger than a model may be, {MAX_BYTES:,} bytes")
    head = _HEAD.match(content)
    if head is None:
        refuse("not a routing model: its content does not begin with a hash")
    if hashlib.sha256(content[head.end() :]).hexdigest().encode() != head[1]:
        refuse("the model has been cut off or altered since it was made: its hash differs")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        refuse(f"not JSON: {error}")
    if fields.get("kind") != "kryonix routing model":
        refuse(f"not a routing model, but {str(fields.get('kind'))[:40]!r}")
    if fields.get("format") != FORMAT:
        refuse(
            f"the model has format {str(fields.get('format'))[:20]}, this version reads {FORMAT}",
            "Use the version of kryonix-messaging that made it, or train a new one",
        )
    try:
        return _adapter().validate_python(fields | {"version": head[1][:12].decode()})
    except (ValidationError, RecursionError) as error:
        refuse(f"not a valid model: {_first(error)}")


def _first(error: Any) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False, include_context=False, include_input=False)
    place = ".".join(str(each) for each in found[0]["loc"][:8])
    return f"{place}: {found[0]['msg'][:200]}"
