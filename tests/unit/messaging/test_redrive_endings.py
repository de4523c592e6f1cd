"""A redrive reports why it ended."""

from __future__ import annotations

import asyncio

import pytest
from aiormq import exceptions as amqp
from rich.console import Console

from kryonix.cli.output.messages import left_behind, tallies_table
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.redrive import Tally, _translated

ADDRESS = parse_uri("amqp://kryonix_acme:hidden@127.0.0.1:5672/%2Fcliente_acme")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (amqp.ConnectionClosed(320, "CONNECTION_FORCED"), 3, "no connection to"),
        (ConnectionResetError("reset"), 3, "no connection to"),
        (amqp.ChannelInvalidStateError("closed"), 3, "no connection to"),
        (RuntimeError("closed"), 3, "no connection to"),
        (asyncio.CancelledError(), 3, "silent for too long"),
        (TimeoutError(), 3, "did not answer within 30 s"),
        (amqp.ChannelAccessRefused("ACCESS_REFUSED - read access"), 1, "refuses it (ChannelAccessRefused"),
        (amqp.ChannelNotFoundEntity("NOT_FOUND - no queue"), 1, "refuses it (ChannelNotFoundEntity"),
        (RecursionError("maximum recursion depth exceeded"), 1, "RecursionError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_only_a_lost_connection_is_reported_as_lost(error: BaseException, status: int, said: str) -> None:
    failure = _translated(ADDRESS, error)
    assert failure.exit_status == status
    assert said in str(failure)
    assert "run the same command again" in str(failure)
    assert "hidden" not in str(failure)


def test_uncopyable_dead_letters_have_a_column_with_reasons() -> None:
    tally = Tally("crm", "leads.create", "cliente_acme.crm.leads.create.dlq", 5)
    for number in range(5):
        tally.cant_be_copied(f"reason {number}")
    assert (tally.uncopyable, tally.uncopyable_because) == (5, ["reason 0", "reason 1", "reason 2"])
    said = left_behind([tally])
    assert said == "5 dead letter(s) were left: they can't be copied (reason 0; reason 1; reason 2)"
    console = Console(width=80, record=True)
    console.print(tallies_table([tally], "acme", False, console))
    assert "can't be copied" in console.export_text()
