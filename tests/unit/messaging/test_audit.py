from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kryonix.messaging import AuditRecord, JsonLinesAudit, MemoryBroker, MessagingError, NotConnected, NotRoutable
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio


class Slow:
    """A sink that takes for ever."""

    def __init__(self) -> None:
        self.closed = False

    async def write(self, records: Sequence[AuditRecord]) -> None:
        await asyncio.sleep(3600)

    async def close(self) -> None:
        self.closed = True


class Kept:
    """A sink that keeps its records, and takes its time."""

    def __init__(self, seconds: float = 0) -> None:
        self.records: list[AuditRecord] = []
        self._seconds = seconds

    async def write(self, records: Sequence[AuditRecord]) -> None:
        await asyncio.sleep(self._seconds)
        self.records += records

    async def close(self) -> None:
        """Nothing to do."""


class Broken(Slow):
    async def write(self, records: Sequence[AuditRecord]) -> None:
        raise OSError("disk full")


async def test_each_send_and_its_outcome_is_one_line(tmp_path: Path) -> None:
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


async def test_a_slow_sink_delays_no_send_and_dropped_records_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kryonix.messaging.writer._GOODBYE", 0.05)
    sink = Slow()
    client = await MemoryBroker(modules=["crm"]).connect(audit=sink)
    client._auditor._capacity = 50  # type: ignore[union-attr]
    began = time.monotonic()
    for number in range(200):
        await client.crm.send("leads.create", number)
    assert time.monotonic() - began < 60  # one write would take an hour
    await client.close()
    assert sink.closed
    assert client.audit_dropped >= 140


async def test_a_send_refused_early_is_recorded() -> None:
    sink = Kept()
    nobody: Any = ["nobody"]
    async with await MemoryBroker(modules=["crm"]).connect(audit=sink) as client:
        for send in (
            client.module("crn").send("leads.create", {}, message_id="module"),
            client.crm.send("leads.create", object(), message_id="data"),
            client.crm.send("leads.create", {}, priority=99, message_id="option"),
            client.send(nobody, "leads.create", {}, message_id="type"),
            client.broadcast(object(), message_id="broadcast"),
        ):
            with pytest.raises(MessagingError):
                await send
    assert {record.message_id: record.outcome for record in sink.records} == {
        "module": "UnknownRoute",
        "data": "NotSerializable",
        "option": "ConfigurationError",
        "type": "UnknownRoute",
        "broadcast": "NotSerializable",
    }
    assert {(record.exchange, record.bytes) for record in sink.records} == {("", 0)}


async def test_closing_waits_for_the_current_batch() -> None:
    sink = Kept(seconds=0.3)
    async with await MemoryBroker(modules=["crm"]).connect(audit=sink) as client:
        await client.crm.send("leads.create", {})
        await asyncio.sleep(0.05)  # the sink has the record, and is not done
    assert (len(sink.records), client.audit_dropped) == (1, 0)


async def test_records_unwritten_at_close_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryonix.messaging.writer._GOODBYE", 0.05)
    client = await MemoryBroker(modules=["crm"]).connect(audit=Slow())
    await client.crm.send("leads.create", {})
    await asyncio.sleep(0.01)
    await client.close()
    assert client.audit_dropped == 1


async def test_a_failing_sink_stops_no_send_and_its_records_count(caplog: pytest.LogCaptureFixture) -> None:
    async with await MemoryBroker(modules=["crm"]).connect(audit=Broken()) as client:
        await client.crm.send("leads.create", 1)
        await eventually_async(lambda: client.audit_dropped == 1)
    assert "disk full" in caplog.text


@pytest.mark.parametrize("name", ["nul\0", "half\ud800", "bell\a"])
async def test_an_unencodable_name_spoils_no_record(tmp_path: Path, name: str) -> None:
    file = tmp_path / "audit.jsonl"
    async with await MemoryBroker(modules=["crm"]).connect(audit=JsonLinesAudit(file)) as client:
        with pytest.raises(MessagingError):
            await client.module(name).send("leads.create", {})
        with pytest.raises(MessagingError):
            await client.crm.send("leads.create", {}, message_id=name)
        await client.crm.send("leads.create", {}, message_id="good")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["outcome"] for line in lines] == ["UnknownRoute", "ConfigurationError", "confirmed"]
    assert all(str(line[field]).isprintable() for line in lines for field in ("module", "message_id"))


class Fragile(Kept):
    """A sink that is cancelled by something of its own once, and can't be closed."""

    cancelled = False

    async def write(self, records: Sequence[AuditRecord]) -> None:
        if not self.cancelled:
            self.cancelled = True
            raise asyncio.CancelledError
        await super().write(records)

    async def close(self) -> None:
        raise OSError("disk full")


async def test_a_cancelled_sink_continues_and_a_failing_close_is_ignored() -> None:
    sink, broker = Fragile(), MemoryBroker(modules=["crm"])
    client = await broker.connect(audit=sink)
    await client.crm.send("leads.create", 1)
    await eventually_async(lambda: sink.cancelled)
    await client.crm.send("leads.create", 2)
    await eventually_async(lambda: len(sink.records) == 2)
    await client.close()
    assert not client.connected
