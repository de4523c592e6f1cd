"""A file with platforms' outputs, for a process that can't read their stacks, such as one in a container."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from kryonix.engines.deployments import Change, Deployment
from kryonix.engines.engine import Engine, StackSpec, ignore, trusted
from kryonix.engines.errors import Refused
from kryonix.engines.events import OnEvent, Summary
from kryonix.errors import InvalidChoice

VARIABLE: Final = "KRYONIX_PLATFORM_FILE"
"""Names the file: JSON, `{STACK: {OUTPUT: VALUE}}`."""

ADVERTISED: Final = "advertised"
"""An entry beside the outputs: those with the address that tenants get, where this process uses another."""

Platforms = Mapping[str, Mapping[str, Any]]

_SECRET: Final = re.compile(r"password|dsn|uri")


def described_platforms() -> Platforms:
    """Return the outputs in the file by stack name; none without the variable. Raises Refused for an invalid file."""
    name = os.environ.get(VARIABLE)
    if not name:
        return {}
    try:
        document = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{VARIABLE}: {name} can't be read: {error}. Name a JSON file that can") from error
    if not isinstance(document, dict) or not all(isinstance(outputs, dict) for outputs in document.values()):
        raise Refused(f"{VARIABLE}: {name} is not an object with the outputs of each platform's stack")
    return document


class DescribedPlatforms:
    """An engine that takes the outputs of some platforms from a file, and runs every other stack itself."""

    def __init__(self, engine: Engine, platforms: Platforms) -> None:
        self._engine, self._platforms = engine, platforms

    def preview(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._engine.preview(self._own(stack), on_event)

    def up(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._engine.up(self._own(stack), on_event)

    def refresh(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._engine.refresh(self._own(stack), on_event)

    def destroy(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._engine.destroy(self._own(stack), on_event)

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        if stack.name not in self._platforms:
            return self._engine.outputs(stack, show_secrets=show_secrets)
        outputs = self._platforms[stack.name]
        shown = {k: "[secret]" if _SECRET.search(k) and not show_secrets else v for k, v in outputs.items()}
        with suppress(InvalidChoice):  # a container may write nowhere: its DSNs name a file of its own
            trusted(shown)
        return shown

    def export(self, stack: StackSpec, *, show_secrets: bool = False) -> dict[str, Any]:
        return {} if stack.name in self._platforms else self._engine.export(stack, show_secrets=show_secrets)

    def rewrite(self, stack: StackSpec, change: Change) -> None:
        self._engine.rewrite(self._own(stack), change)

    def restore(self, stack: StackSpec, deployment: Deployment) -> None:
        self._engine.restore(self._own(stack), deployment)

    def stacks(self) -> list[str]:
        return sorted({*self._engine.stacks(), *self._platforms})

    def marks(self, names: Collection[str]) -> dict[str, str]:
        return self._engine.marks(names)

    def program_digest(self) -> str:
        return self._engine.program_digest()

    def _own(self, stack: StackSpec) -> StackSpec:
        """Return the stack. Raises Refused for a platform: its state is elsewhere, so a run would make it again."""
        if stack.name in self._platforms:
            remedy = "Run this where the platform's project and state are"
            raise Refused(f"the stack {stack.name!r} is known here from {VARIABLE} only. {remedy}")
        return stack
