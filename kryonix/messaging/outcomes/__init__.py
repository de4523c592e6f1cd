"""Outcomes: notes of what was known when a message was sent and of what became of it, to learn from.

What only readers of notes need is imported at first use: an application that only sends need not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kryonix.messaging.outcomes.joining import join
    from kryonix.messaging.outcomes.lines import JsonLinesOutcomes, read_notes
    from kryonix.messaging.outcomes.note import Consumed, Note, Published
    from kryonix.messaging.outcomes.recorder import Outcomes, OutcomeSink
    from kryonix.messaging.outcomes.table import PostgresOutcomes

__all__ = [
    "Consumed",
    "JsonLinesOutcomes",
    "Note",
    "OutcomeSink",
    "Outcomes",
    "PostgresOutcomes",
    "Published",
    "join",
    "read_notes",
]

_PLACES: Final = {
    "Consumed": "note",
    "JsonLinesOutcomes": "lines",
    "Note": "note",
    "OutcomeSink": "recorder",
    "Outcomes": "recorder",
    "PostgresOutcomes": "table",
    "Published": "note",
    "join": "joining",
    "read_notes": "lines",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
