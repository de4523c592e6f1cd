"""Notes in a file, one line of JSON each."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from kryonix.messaging.outcomes.note import Note


class JsonLinesOutcomes:
    """Append notes to a file. Several processes may share it: each batch is one write at the file's end."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    async def write(self, notes: Sequence[Note]) -> None:
        await asyncio.to_thread(self._append, notes)

    def _append(self, notes: Sequence[Note]) -> None:
        if self._path.is_fifo():  # to open one waits for its reader, and the program could not end
            raise OSError(f"{self._path}: a pipe can't keep notes")
        content = memoryview("".join(map(line_of, notes)).encode(errors="backslashreplace"))
        with self._path.open("ab", buffering=0) as file:
            if file.tell() and not self._ends_with_a_line():
                file.write(b"\n")  # a process died within its last line
            while content:  # a full disk may take a part, and then raises
                content = content[file.write(content) :]

    def _ends_with_a_line(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    async def close(self) -> None: ...


def line_of(note: Note) -> str:
    """Return a note as a line of a file."""
    from kryonix.messaging.outcomes.note import Published

    kind = "published" if isinstance(note, Published) else "consumed"
    return json.dumps({"note": kind, **asdict(note)}, ensure_ascii=False, separators=(",", ":")) + "\n"


@cache
def _adapters() -> dict[Any, TypeAdapter[Any]]:
    from pydantic import TypeAdapter

    from kryonix.messaging.outcomes.note import Consumed, Published

    return {"published": TypeAdapter(Published), "consumed": TypeAdapter(Consumed)}


def read_notes(lines: Iterable[bytes], counts: Counter[str] | None = None) -> Iterator[Note]:
    """Yield the notes of a file's lines. Lines that are none are skipped, and counted as `unreadable`."""
    for line in lines:
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            yield _adapters()[fields.pop("note")].validate_python(fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            if counts is not None:
                counts["unreadable"] += 1
