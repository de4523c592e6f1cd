"""`kryonix router`: routing that learns. Its decisions for messages that are read from a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from kryonix.cli import router_models, router_outcomes, router_training
from kryonix.cli.groups import group
from kryonix.cli.options import command
from kryonix.cli.router_models import ModelFile, model_of
from kryonix.errors import InvalidChoice
from kryonix.routing.known import rules_priority
from kryonix.routing.learned import Decider
from kryonix.routing.model import Model
from kryonix.routing.outcomes import MAX_LINE, Asked, read_asked

_BLOCK: Final = 65_536

app = group("router", "Routing that learns: outcomes, training, evaluation, modes and decisions.")
for _part in (router_outcomes, router_training, router_models):
    app.add_typer(_part.app)


@command(app)
def decide(
    model: ModelFile,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Messages; default: standard input.")] = None,
) -> None:
    """Read messages as lines of JSON, and print priority and reason of each as a line of JSON, in order.

    A wrong line ends it with exit status 2; the lines before it are already answered.
    """
    found = model_of(model)
    if file is None:
        _answer(found, cast(BufferedReader, sys.stdin.buffer), "standard input")
        return
    try:
        opened = file.open("rb")
    except OSError as error:
        raise InvalidChoice(f"{str(file)!r} can't be read: {error.strerror}. Check the path") from error
    with opened:
        _answer(found, opened, str(file))


def _answer(model: Model, stream: BufferedReader, source: str) -> None:
    output = sys.stdout.buffer
    try:
        output.writelines(answers(model, read_asked(lines_of(stream.read1, output.flush), source)))
    finally:  # an error comes after the answers before it
        output.flush()


def lines_of(read: Callable[[int], bytes], before_read: Callable[[], None]) -> Iterator[bytes]:
    """Yield lines as they arrive. `before_read` is called when all that have arrived are taken.

    So who writes a line and waits gets its answer.
    """
    begun = bytearray()
    while block := read(_BLOCK):
        first, *others = block.split(b"\n")
        begun += first
        if len(begun) > MAX_LINE:
            break
        if others:
            yield bytes(begun)
            yield from others[:-1]
            begun = bytearray(others[-1])
            before_read()
    if begun:
        yield bytes(begun)


def answers(model: Model, asked: Iterable[Asked]) -> Iterator[bytes]:
    """Yield the answer to each message as a line. Without a model for its action the rules decide."""
    deciders: dict[tuple[str, str], Decider | str] = {}
    for each in asked:
        route = each.module, each.action
        if (decider := deciders.get(route)) is None:
            decider = deciders[route] = _decider(model, ".".join(route))
        if isinstance(decider, str):
            priority, reason = rules_priority(each.priority, each.expires_ms), decider
        else:
            choice = decider.choose(each.known)
            priority, reason = choice.priority, choice.reason
        answer = {"message_id": each.message_id, "priority": priority, "reason": reason}
        yield json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _decider(model: Model, route: str) -> Decider | str:
    """Return what decides an action, or why the rules do."""
    if (learned := model.actions.get(route)) is not None:
        return Decider(learned, model.explore)
    return f"rules: {model.refused.get(route, f'the model has not learned {route}')}"
