"""A worker in a process of its own, on a machine whose clock is wrong: `python -m … DSN SECONDS FAILURES FOLDER`.

What it does to tenants is nothing: so many attempts fail as if the broker were away, and those after them succeed.
"""

from __future__ import annotations

import datetime
import sys
import time
from pathlib import Path
from typing import Any


def shift_clock(seconds: float) -> None:
    """Move everything that this process can read the time from, before anything else has taken it."""
    real, real_time = datetime.datetime, time.time

    class Shifted(real):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + datetime.timedelta(seconds=seconds)

    datetime.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: real_time() + seconds


class Broken:
    """Stands where the tenants' lifecycle does."""

    def __init__(self, failures: int, folder: Path) -> None:
        self._failures = failures
        self._folder = folder

    def suspend(self, tenant: str, on_event: Any) -> None:
        from kryonix.rabbitmq.client import BrokerUnavailable

        begun = self._folder / tenant
        count = len(begun.read_text().splitlines()) if begun.exists() else 0
        with begun.open("a") as file:
            file.write("an attempt\n")
        if count < self._failures:
            raise BrokerUnavailable("the broker at http://10.9.8.7:15672 does not answer")

    def due(self) -> list[str]:
        return []


def main() -> None:
    dsn, seconds, failures, folder = sys.argv[1:]
    shift_clock(float(seconds))

    import logging

    from kryonix.signup.worker import run_worker
    from kryonix.topology.catalog import default_catalog
    from kryonix.topology.cells import Cell, Cells

    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    lifecycle: Any = Broken(int(failures), Path(folder))
    cells = Cells(cells={"main": Cell(platform="organization/kryonix/none")})
    uri = "amqp://nobody:nothing@127.0.0.1:1/"
    run_worker(dsn, uri, lifecycle, default_catalog(), cells, say=lambda text: print(text, flush=True))


if __name__ == "__main__":
    main()
