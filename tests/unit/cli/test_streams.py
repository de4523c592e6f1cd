"""Closed and full streams, and an interrupt while the command is imported: one line, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m kryonix"
ROOT = Path(__file__).parents[3]


def ended(line: str) -> tuple[int, list[str]]:
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("command", ["--help", "--version", "plan", "schema"])
@pytest.mark.parametrize(("stream", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")])
def test_output_that_cannot_be_written_ends_with_one_line(command: str, stream: str, why: str) -> None:
    assert ended(f"{COMMAND} {command} {stream}") == (1, [f"error: standard output: {why}"])


def test_no_stream_at_all_still_gives_the_status() -> None:
    assert ended(f"{COMMAND} schema <&- 2>&-") == (0, [])
    assert ended(f"{COMMAND} schema <&- >&- 2>&-") == (1, [])
    assert ended(f"{COMMAND} schema >/dev/full 2>/dev/full") == (1, [])


def test_closed_input_is_empty_input() -> None:
    status, lines = ended(f"{COMMAND} send crm.leads.create <&-")
    assert status == 2
    assert len(lines) == 1
    assert "there is no data" in lines[0]


def test_a_reader_that_leaves_gets_no_message() -> None:
    assert ended(f"set -o pipefail; {COMMAND} plan --json | true") == (1, [])


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("kryonix.cli.app", "interrupted"),
        ("rich.console", "interrupted"),
        ("kryonix.cli.plan", "interrupted; run the same command again to continue"),
    ],
)
def test_an_interrupt_during_the_imports_ends_with_one_line(module: str, line: str) -> None:
    program = (
        "import sys, kryonix.__main__\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv = ['kryonix', 'plan']\n"
        "kryonix.__main__.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (130, "", [line])
