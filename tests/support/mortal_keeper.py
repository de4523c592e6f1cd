"""Rounds of the keeper that are killed, each at the next of its steps, and after each a round that must finish it.

Arguments: the keeper's file; the folder for its status. Prints a line per step at which it was killed, then, as JSON,
their count and what was not served after the round that followed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from kryonix.certificates.keeper import Keeper
from kryonix.certificates.places import read_keeper_file

STEPS = ("os.rename", "os.remove", "os.chown", "os.chmod", "socket.connect")
PATIENCE_S = 60


def killed_round(keeper: Keeper, step: int) -> bool:
    """Renew everything in a process that is killed right before a step; return False if it has ended before."""
    pid = os.fork()
    if pid == 0:
        left = step

        def count(event: str, args: tuple[Any, ...]) -> None:
            nonlocal left
            writes = event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT
            if event in STEPS or writes:
                left -= 1
                if left == 0:
                    os.write(1, f"{event} {args[0]}\n".encode())
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        keeper.round(force=True, patience=PATIENCE_S)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def main() -> None:
    keeper = Keeper(read_keeper_file(Path(sys.argv[1])), Path(sys.argv[2]))
    step, wrong = 0, []
    while killed_round(keeper, step := step + 1):
        after = Keeper(read_keeper_file(Path(sys.argv[1])), Path(sys.argv[2])).round(patience=PATIENCE_S)
        wrong += [(step, each.role, each.state, each.problem) for each in after if each.state != "served"]
    sys.stdout.write(json.dumps({"kills": step - 1, "wrong": wrong}))


if __name__ == "__main__":
    main()
