"""A file as a resource, which tests can read and change without a service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

REFUSED = "refused"
"""A text that can't be written."""


class _NoteProvider(ResourceProvider):
    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        self._write(props)
        return CreateResult(props["path"], props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        self._write(_news)
        return UpdateResult(_news)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=any(_olds.get(key) != _news[key] for key in ("text", "delay")))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        path = Path(id_)
        return ReadResult(id_, {**props, "text": path.read_text()}) if path.exists() else ReadResult("", {})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        Path(_id).unlink(missing_ok=True)

    def _write(self, props: dict[str, Any]) -> None:
        path = Path(props["path"])
        with (path.parent / "log").open("a") as log:
            print("begin", path.name, file=log, flush=True)
            time.sleep(float(props["delay"]))
            print("end", path.name, file=log, flush=True)
        if props["text"] == REFUSED:
            raise ValueError(f"the note {path.name} can't be written: it is refused")
        path.write_text(props["text"])


class Note(Resource):
    """One file."""

    def __init__(self, name: str, path: str, text: pulumi.Input[str], delay: float = 0) -> None:
        super().__init__(_NoteProvider(), name, {"path": path, "text": text, "delay": delay})
