"""What became of messages: one line of JSON a message, for training and for anyone's data."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, BinaryIO, Final

from annotated_types import Ge, Le, MaxLen
from pydantic import AllowInfNan, ConfigDict, Strict, TypeAdapter, ValidationError

from kryonix.errors import InvalidChoice
from kryonix.routing.endings import Became
from kryonix.routing.known import Known
from kryonix.routing.numbers import LARGEST

Priority = Annotated[int, Ge(0), Le(10)]
Text = Annotated[str, MaxLen(255)]
Milliseconds = Annotated[float, Ge(0), Le(LARGEST), AllowInfNan(False)]

Bytes = Annotated[int, Ge(0), Le(int(LARGEST)), Strict(False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One message to decide, as `kryonix router decide` reads it: what was known when it was sent."""

    __pydantic_config__ = ConfigDict(strict=True)

    module: Text
    action: Text
    at: Annotated[float, Ge(0), Le(1e11)]
    """Seconds since 1970."""
    message_id: Text
    bytes: Bytes
    device: Text
    shape: Text
    priority: Priority | None
    expires_ms: Milliseconds | None

    @property
    def known(self) -> Known:
        return Known(
            self.module,
            self.action,
            self.at,
            self.message_id,
            self.bytes,
            self.device,
            self.shape,
            self.priority,
            self.expires_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Asked):
    """One message: what was known when it was sent, and what became of it."""

    waited_ms: Milliseconds | None
    """From the broker's receive time to the first handler's start; None for one that no handler got."""
    handled_ms: Milliseconds | None
    """Of the last attempt."""
    attempts: Annotated[int, Ge(0)]
    outcome: Became
    priority_used: Priority
    decision: Text | None = None
    """Who decided: `rules`, `explored` or `learned`."""
    propensity: Annotated[float, Ge(0), Le(1)] | None = None
    """The share of messages like this that get such a decision."""
    compressed_bytes: Annotated[int, Ge(0), Le(int(LARGEST))] | None = None
    """Size on the wire, if compression was tried."""

    @property
    def route(self) -> str:
        return f"{self.module}.{self.action}"

    @property
    def missed(self) -> bool | None:
        """True if it waited longer than its stated expiry, None without one."""
        if self.expires_ms is None:
            return None
        return self.outcome == "expired" or (self.waited_ms is not None and self.waited_ms > self.expires_ms)

    def line(self) -> str:
        """Return it as a line of a file."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        kept = {name: _whole(value) for name, value in values.items() if value is not None or name in _REQUIRED}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":")) + "\n"


def _whole(value: Any) -> Any:
    """Return text without half characters: no file can have them."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


MAX_LINE: Final = 1_000_000
"""Bytes of a line, of which a right one has less than a thousandth."""


def lines_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file's lines, and of one that is too long no more than shows it."""
    return iter(lambda: file.readline(MAX_LINE + 1), b"")


_REQUIRED: Final = ("priority", "expires_ms", "waited_ms", "handled_ms")


def read_outcomes(lines: Iterable[bytes], source: str) -> Iterator[Outcome]:
    """Yield the outcomes of a file's lines. Raises InvalidChoice with the number of a wrong line."""
    return _read(lines, source, Outcome)


def by_action(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Return the outcomes of each action, the earliest first."""
    found: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in sorted(outcomes, key=lambda each: each.at):
        found[outcome.route].append(outcome)
    return dict(sorted(found.items()))


def read_asked(lines: Iterable[bytes], source: str) -> Iterator[Asked]:
    """Yield the messages of a file's lines. Raises InvalidChoice with the number of a wrong line."""
    return _read(lines, source, Asked)


_ADAPTERS: Final[dict[type[Any], Callable[[], TypeAdapter[Any]]]] = {
    kind: cache(lambda kind=kind: TypeAdapter(kind)) for kind in (Outcome, Asked)
}
"""Made at first use: an application that only sends needs none."""
_NOTE: Final = b'{"note":'
"""How a line of the file begins that senders and consumers write."""


_REMEDY: Final = "The format is in docs/routing.md"


def _read(lines: Iterable[bytes], source: str, kind: type[Any]) -> Iterator[Any]:
    adapter = _ADAPTERS[kind]()
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise InvalidChoice(f"{source}:{number}: more than {MAX_LINE:,} bytes are not a message. {_REMEDY}")
        if not line.strip():
            continue
        try:
            yield adapter.validate_json(line)
        except ValidationError as error:
            if kind is Outcome and line.lstrip().startswith(_NOTE):
                problem = "a note of a message, not yet its outcome"
                remedy = f"Join them: `kryonix router outcomes export --notes {source} > outcomes.jsonl`"
                raise InvalidChoice(f"{source}:{number}: {problem}. {remedy}") from None
            first = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(str(each) for each in first["loc"])
            given = f", not {first['input']!r:.60}" if place and first["type"] != "missing" else ""
            problem = f"{place + ': ' if place else ''}{first['msg']}{given}"
            raise InvalidChoice(f"{source}:{number}: {problem}. {_REMEDY}") from error
