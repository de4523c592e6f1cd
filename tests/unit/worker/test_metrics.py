from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from kryonix.messaging import Message
from kryonix.messaging.message import RECEIVED_HEADER, Route, receive_time
from kryonix.messaging.outcomes import Consumed, Note
from kryonix.worker.metrics import WorkerMetrics
from tests.support.project import free_port

ROUTE = ("acme", "crm", "leads.create")
SERIES = {"tenant": "acme", "module": "crm", "action": "leads.create"}


def test_head_answers_as_get_without_a_body() -> None:
    metrics, port = WorkerMetrics(), free_port()
    metrics.serve("127.0.0.1", port)
    try:
        got, head = (httpx.request(method, f"http://127.0.0.1:{port}/metrics") for method in ("GET", "HEAD"))
    finally:
        metrics.close()
    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert b"kryonix_worker_figures_readable" in got.content
    assert head.headers["content-type"] == got.headers["content-type"]


async def handled(message: Message) -> None:
    """Do nothing."""


def waits(*messages: Message, priority: str = "medium") -> tuple[float, float]:
    """Return the number and the sum of the waits of a priority that a worker observes."""
    metrics = WorkerMetrics()
    handle = metrics.measured(ROUTE, handled)

    async def run() -> None:
        for message in messages:
            await handle(message)

    asyncio.run(run())
    series = SERIES | {"priority": priority}
    count, total = (metrics.registry.get_sample_value(f"kryonix_worker_wait_seconds_{of}", series) for of in _SAMPLES)
    return count or 0.0, total or 0.0


_SAMPLES = ("count", "sum")


def received(ago_s: float | None, attempt: int = 1, priority: int = 5) -> Message:
    at = None if ago_s is None else datetime.now(UTC) - timedelta(seconds=ago_s)
    return Message({}, "m", attempt, {}, Route("crm", "leads.create", "q", "e", "k"), priority, received_at=at)


def test_the_wait_is_the_time_since_the_broker_received_it() -> None:
    count, total = waits(received(20), received(30))
    assert count == 2
    assert 50 <= total < 60


def test_waits_are_counted_by_priority() -> None:
    messages = [received(1, priority=9), received(1, priority=8), received(1), received(1, priority=4)]
    assert [waits(*messages, priority=name)[0] for name in ("high", "medium", "low")] == [2, 1, 1]


def test_notes_of_outcomes_are_counted_as_written_or_dropped() -> None:
    class Full:
        full = False

        async def write(self, notes: Sequence[Note], /) -> None:
            if self.full:
                raise OSError("no space left")

        async def close(self) -> None: ...

    async def run() -> None:
        await counted.write([note, note])
        sink.full = True
        with pytest.raises(OSError, match="no space"):
            await counted.write([note])

    metrics, sink = WorkerMetrics(), Full()
    counted = metrics.counted("acme", sink)
    note = Consumed(
        tenant="acme", module="crm", action="leads.create", message_id="m", at=1, waited_ms=1, handled_ms=1, attempts=1,
        outcome="done",
    )  # fmt: skip
    asyncio.run(run())
    for dropped in (1, 3):
        metrics.dropped("acme", dropped)
    found = [
        metrics.registry.get_sample_value("kryonix_worker_outcome_notes_total", {"tenant": "acme", "result": result})
        for result in ("written", "dropped")
    ]
    assert found == [2, 3]


def test_a_clock_ahead_of_the_workers_gives_no_negative_wait() -> None:
    assert waits(received(-60)) == (1, 0)


def test_further_attempts_and_messages_without_a_stamp_are_not_counted() -> None:
    assert waits(received(5, attempt=2), received(None)) == (0, 0)


@pytest.mark.parametrize("stamp", [None, "soon", True, 1.5, 10**18, -(10**18), datetime.now(UTC)])
def test_a_stamp_that_is_no_time_is_ignored(stamp: Any) -> None:
    assert receive_time({RECEIVED_HEADER: stamp}) is None


def test_a_stamp_counts_milliseconds_since_1970() -> None:
    assert receive_time({RECEIVED_HEADER: 1_500}) == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert receive_time({}) is None
