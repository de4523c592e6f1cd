from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from kryonix.messaging import AuditRecord, JsonLinesAudit, MemoryBroker, NotConnected, NotRoutable

pytestmark = pytest.mark.anyio


class Slow:
    """A sink that takes for ever."""

    def __init__(self) -> None:
        self.closed = False

    async def write(self, records: Sequence[AuditRecord]) -> None:
        await asyncio.sleep(3600)

    async def close(self) -> None:
        self.closed = True


class Broken(Slow):
    async def write(self, records: Sequence[AuditRecord]) -> None:
        raise OSError("disk full")


async def test_every_send_and_its_outcome_is_a_line_in_the_file(tmp_path: Path) -> None:
    file, broker = tmp_path / "audit.jsonl", MemoryBroker("acme", modules=["crm"])
    async with await broker.connect(application="shop", audit=JsonLinesAudit(file)) as client:
        await client.crm.send("leads.create", {"secret": "x"}, message_id="one")
        with pytest.raises(NotRoutable):
            await client.portal.send("treinamentos.sync", {}, message_id="two")
        broker.go_away()
        with pytest.raises(NotConnected):
            await client.crm.send("leads.create", {}, message_id="three", timeout=0.05)
        broker.come_back()
        await client.broadcast({}, message_id="four")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["message_id"], line["outcome"]) for line in lines] == [
        ("one", "confirmed"),
        ("two", "NotRoutable"),
        ("three", "NotConnected"),
        ("four", "confirmed"),
    ]
    first = lines[0]
    assert (first["tenant"], first["application"], first["module"], first["action"]) == (
        "acme",
        "shop",
        "crm",
        "leads.create",
    )
    assert (first["exchange"], first["routing_key"], first["priority"]) == (
        "cliente_acme",
        "crm.leads.create.medium",
        5,
    )
    assert "secret" not in file.read_text()


async def test_a_slow_sink_holds_up_no_send_and_what_it_can_not_take_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kryonix.messaging.audit._GOODBYE", 0.05)
    sink = Slow()
    client = await MemoryBroker(modules=["crm"]).connect(audit=sink)
    client._auditor._capacity = 50  # type: ignore[union-attr]
    began = time.monotonic()
    for number in range(200):
        await client.crm.send("leads.create", number)
    assert time.monotonic() - began < 5
    await client.close()
    assert sink.closed
    assert client.audit_dropped >= 140


async def test_a_sink_that_fails_stops_no_send_and_its_records_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with await MemoryBroker(modules=["crm"]).connect(audit=Broken()) as client:
        await client.crm.send("leads.create", 1)
        await asyncio.sleep(0.2)
        assert client.audit_dropped == 1
    assert "disk full" in caplog.text
