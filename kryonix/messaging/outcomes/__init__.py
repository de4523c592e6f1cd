"""Outcomes: notes of what was known when a message was sent and of what became of it, to learn from."""

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
