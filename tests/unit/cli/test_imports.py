from __future__ import annotations

import subprocess
import sys


def test_the_command_loads_neither_pulumi_nor_the_sdk_before_one_that_needs_them_is_run() -> None:
    program = "import sys, kryonix.cli.app; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert not {"pulumi", "aio_pika", "httpx", "prometheus_client"} & set(loaded)
