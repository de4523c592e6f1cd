"""The program's refusal to lose messages, as an error of this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from kryonix.engines.errors import EngineFailed
from kryonix.tenants.errors import WouldLoseMessages

_REFUSALS: Final = {
    "would-lose-messages": "this change would delete {count} queue(s) that still hold messages",
    "would-lose-oldest-messages": "this change would delete the oldest messages of {count} queue(s), which hold more "
    "than their policy will allow",
}


@contextmanager
def translate_loss_errors(*, ignore_protection: bool = False) -> Iterator[None]:
    """Raise WouldLoseMessages for the program's refusal to lose messages.

    With `ignore_protection`, ignore an engine's own refusal to delete protected resources: the program runs before
    the engine deletes anything, and has refused nothing.
    """
    try:
        yield
    except EngineFailed as error:
        if error.failure and (refusal := _REFUSALS.get(error.kind)):
            queues = error.failure.queues
            raise WouldLoseMessages(_message(refusal, queues), queues) from error
        if not (ignore_protection and error.kind == "protected"):
            raise


def _message(refusal: str, queues: Mapping[str, int]) -> str:
    counts = "\n".join(f"  {messages:,} messages in {name}" for name, messages in queues.items())
    return (
        f"{refusal.format(count=len(queues))}; nothing has been changed:\n{counts}\n"
        "Consume or move them first, or accept the loss by naming each queue in allow_delete (`--allow-delete QUEUE`)"
    )
