"""`stats --watch` without figures."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from kryonix.cli.output.messages import watch_stats
from kryonix.messaging.configuration import parse_uri
from kryonix.topology.catalog import default_catalog


@pytest.mark.anyio
async def test_before_the_first_statistics_none_are_called_old() -> None:
    output = io.StringIO()
    console = Console(file=output, width=400)
    address = parse_uri("amqp://kryonix_acme:x@127.0.0.1:1/%2Fcliente_acme", "http://127.0.0.1:1")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch_stats(address, default_catalog(), None, False, 0.1, console), 1)
    assert "no statistics yet. http://127.0.0.1:1/api" in output.getvalue()
    assert "old" not in output.getvalue()
