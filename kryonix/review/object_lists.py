"""The objects of a tenant that differ: queues lost and added, policies that change in place, permissions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from kryonix.review.differences import Field, TenantDifference
from kryonix.review.escaping import code
from kryonix.review.wording import DONE, counted, names, value_or_none
from kryonix.topology.catalog import MIB, size_text
from kryonix.topology.comparison import Action, Change
from kryonix.topology.objects import KINDS

__all__ = ["object_lists", "policy_steps"]

_MS: Final = ("message-ttl", "delayed-retry-min", "delayed-retry-max")
_BYTES: Final = ("max-length-bytes",)
_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}


def object_lists(difference: TenantDifference, most: int | None) -> Iterator[str]:
    """What changes of a tenant that stays. Lists end after `most` names where that is given."""
    by: dict[tuple[str, Action], list[Change]] = {}
    for change in difference.changes:
        by.setdefault((change.kind, change.action), []).append(change)
    by.pop(("vhost", "change"), None)  # its limits are in the figures
    for action in ("replace", "remove"):
        if lost := by.pop(("queue", action), []):
            title = f"⚠️ **{counted(len(lost), 'queue')} {DONE[action]}, with the messages**"
            yield from _list(title, lost, most)
    if added := by.pop(("queue", "add"), []):
        yield from _list(f"**{counted(len(added), 'queue')} added**", added, most)
    mutable = [kind.name for kind in KINDS.values() if not kind.immutable]
    if policies := [change for kind in mutable for change in by.pop((kind, "change"), [])]:
        yield "**Policies that change in place, messages stay**"
        yield from ("", "| policy | key | before | after |", "|---|---|---|---|", *_keys(policies), "")
    if rights := by.pop(("permissions", "change"), []):
        yield "**Permissions**"
        yield from ("", "| right | before | after |", "|---|---|---|", *_rights(rights), "")
    if by:
        yield (
            "Also " + ", ".join(f"{counted(len(found), kind)} {DONE[act]}" for (kind, act), found in by.items()) + "."
        )
        yield ""


def _list(title: str, changes: Sequence[Change], most: int | None) -> Iterator[str]:
    yield from (title, "")
    yield from (f"- {code(change.name)}" for change in (changes if most is None else changes[:most]))
    if most is not None and len(changes) > most:
        yield f"- and {len(changes) - most:,} more"
    yield ""


def policy_steps(changes: Iterable[Change]) -> dict[tuple[str, str, str], list[str]]:
    """Each step of a key, before and after, with the names of all the policies that take it."""
    steps: dict[tuple[str, str, str], list[str]] = {}
    for change in changes:
        for field in _fields(_flat(change.before), _flat(change.after)):
            was, now = (_written(field.name, value) for value in (field.before, field.after))
            steps.setdefault((field.name, value_or_none(was), value_or_none(now)), []).append(change.name)
    return steps


def _keys(changes: Iterable[Change]) -> Iterator[str]:
    for (key, before, after), policies in policy_steps(changes).items():
        yield f"| {names(policies, None)} | {code(key)} | {before} | {after} |"


def _written(key: str, value: Any) -> Any:
    """A figure as the catalog writes it, where it is a duration or a size."""
    if key in _BYTES and isinstance(value, int) and value > 0 and value % MIB == 0:
        return size_text(value)
    return _duration(value) if key in _MS else value


def _duration(value: Any) -> Any:
    """A duration in ms as the catalog writes it, where it is one."""
    if not isinstance(value, int) or value <= 0:
        return value
    return next((f"{value // size}{unit}" for unit, size in _UNITS.items() if value % size == 0), f"{value} ms")


def _flat(policy: Any) -> dict[str, Any]:
    plain = asdict(policy)
    return {**plain.pop("definition"), **plain}


def _rights(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        for field in _fields(asdict(change.before), asdict(change.after)):
            yield f"| {field.name} | {value_or_none(field.before)} | {value_or_none(field.after)} |"


def _fields(was: dict[str, Any], now: dict[str, Any]) -> Iterator[Field]:
    fields = (Field(key, was.get(key), now.get(key)) for key in was | now)
    return (field for field in fields if field.differs)
