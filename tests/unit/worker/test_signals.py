"""A signal ends `kryonix worker` at any moment of its start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from kryonix.worker.worker import Worker

HANDLERS = """
async def handle(message): ...
HANDLERS = {"crm.leads.create": handle}
"""


@contextmanager
def starting(folder: Path) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """A worker that starts up, and the broker to which it connects: one that never answers."""
    (folder / "silent_handlers.py").write_text(HANDLERS)
    with socket.create_server(("127.0.0.1", 0)) as broker:
        broker.settimeout(60)
        uri = f"amqp://kryonix_acme:hidden@127.0.0.1:{broker.getsockname()[1]}/%2Fcliente_acme"
        process = subprocess.Popen(
            [sys.executable, "-m", "kryonix", "worker", "silent_handlers:HANDLERS", "--plan", "basic"],
            cwd=folder,
            env={**os.environ, "KRYONIX_AMQP_URI": uri},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process, broker
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_during_connecting_ends_the_worker(tmp_path: Path, number: signal.Signals) -> None:
    with starting(tmp_path) as (process, broker):
        connection, _ = broker.accept()
        with connection:
            process.send_signal(number)
            said, _ = process.communicate(timeout=8)  # the connection alone may take 10 s
    assert process.returncode == 0, said
    assert "stopped" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5])
def test_sigterm_ends_a_worker_in_its_first_second(tmp_path: Path, after_s: float) -> None:
    with starting(tmp_path) as (process, _):
        time.sleep(after_s)
        process.terminate()
        said, _ = process.communicate(timeout=8)
    assert process.returncode in (0, -signal.SIGTERM), said


def test_repeated_signals_do_not_interrupt_the_handlers() -> None:
    ends = list[str]()

    class Slow(Worker):
        async def _work(self) -> None:
            try:
                await asyncio.sleep(30)
            finally:
                for step in ("finished", "disconnected"):
                    await asyncio.sleep(0.1)
                    ends.append(step)

    async def run() -> None:
        for number in range(6):
            asyncio.get_running_loop().call_later(0.03 * number, os.kill, os.getpid(), signal.SIGTERM)
        await Slow(*[cast(Any, None)] * 5).run()

    asyncio.run(run())
    assert ends == ["finished", "disconnected"]
