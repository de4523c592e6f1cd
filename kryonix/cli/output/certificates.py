"""Tables of certificates: what the keeper keeps, and what clients see at each address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kryonix.cli.output.tables import Column, responsive_table

_COLOURS: Final = {"served": "green", "accepted": "green", "waiting": "yellow", "not answering": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The certificate at an address, and what a client makes of it. Times are in ISO 8601, serials hexadecimal."""

    address: str
    state: str
    """`accepted`, `refused`, `expires soon` or `not answering`."""
    service: str = ""
    """The service that the keeper has given it to; empty if that is not known."""
    names: Sequence[str] = ()
    issuer: str = ""
    serial: str = ""
    expires: str = ""
    renews: str = ""
    problem: str = ""


_SEEN: Final[tuple[Column[Seen], ...]] = (
    Column("address", lambda each: each.address),
    Column("service", lambda each: each.service, drop_priority=4),
    Column("state", lambda each: Text(each.state, _COLOURS.get(each.state, "red"))),
    Column("expires", lambda each: each.expires[:10]),
    Column("renews", lambda each: each.renews[:10], drop_priority=5),
    Column("issuer", lambda each: each.issuer, drop_priority=3, min_width=12),
    Column("names", lambda each: ", ".join(each.names), min_width=12, drop_priority=2),
    Column("serial", lambda each: each.serial[:12], drop_priority=1),
    Column("problem", lambda each: each.problem, min_width=16),
)
_PLACES: Final[tuple[Column[dict[str, Any]], ...]] = (
    Column("service", lambda each: each["role"]),
    Column("state", lambda each: Text(each["state"], _COLOURS.get(each["state"], "red"))),
    Column("expires", lambda each: each["expires"][:10], drop_priority=4),
    Column("renews", lambda each: each["renews"][:10], drop_priority=3),
    Column("names", lambda each: ", ".join(each["names"]), min_width=12, drop_priority=2),
    Column("serial", lambda each: each["serial"][:12], drop_priority=1),
    Column("problem", lambda each: each["problem"], min_width=16),
)


def seen_table(seen: Sequence[Seen], console: Console) -> Table:
    """Return the table of addresses."""
    return responsive_table(f"{len(seen)} address(es) with TLS", _SEEN, seen, console)


def places_table(places: Sequence[dict[str, Any]], console: Console) -> Table:
    """Return the table of places as the keeper's status has them."""
    return responsive_table(f"{len(places)} service(s) with a certificate", _PLACES, places, console)
