"""The queues whose messages may be lost: each by its name, or several of one tenant by a name with `*` in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from kryonix.topology.naming import TENANT_ID

__all__ = ["accepted", "too_wide"]

_OF_ONE_TENANT = re.compile(rf"cliente_{TENANT_ID}\.")


def accepted(queue: str, entries: Collection[str]) -> bool:
    """Whether a queue's loss is accepted. In an entry, `*` is any text; every other character is itself."""
    return queue in entries or any("*" in entry and _matches(entry, queue) for entry in entries)


def too_wide(entries: Iterable[str]) -> list[str]:
    """The entries with `*` that could reach beyond one tenant: what is accepted names whose messages it is about.

    `cliente_acme*` is one of them, being `acme2`'s as well.
    """
    return [entry for entry in entries if "*" in entry and not _OF_ONE_TENANT.match(entry)]


def _matches(entry: str, queue: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, entry.split("*"))), queue, re.DOTALL) is not None
