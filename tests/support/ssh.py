"""An SSH server on this machine, and the config with which the program `ssh` logs in to it as the host `far`."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.project import free_port
from tests.support.waiting import eventually

HOST: Final = "127.0.0.1"


@dataclass(frozen=True)
class SshServer:
    """The files of a server: `authorized` has the client's key, `known` the server's."""

    folder: Path
    port: int

    @property
    def programs(self) -> str:
        """Return the folder with an `ssh` that reads this config instead of the user's own."""
        return str(self.folder / "bin")

    def authorize(self, command: str = "") -> None:
        """Let the client log in; each of its commands is $SSH_ORIGINAL_COMMAND in this one's environment."""
        forced = f'command="{command}; eval $SSH_ORIGINAL_COMMAND" ' if command else ""
        (self.folder / "authorized").write_text(forced + self._public("client"))

    def refuse(self) -> None:
        (self.folder / "authorized").write_text("")

    def know(self, whose: str = "server") -> None:
        """Take a key for that of the server."""
        (self.folder / "known").write_text(f"[{HOST}]:{self.port} {self._public(whose)}")

    def forget(self) -> None:
        (self.folder / "known").write_text("")

    def _public(self, whose: str) -> str:
        return (self.folder / f"{whose}.pub").read_text()


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run a server that knows one key, for the block."""
    server = SshServer(folder, free_port())
    for whose in ("server", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / whose], check=True)
    server.authorize()
    server.know()
    settings = {"ListenAddress": f"{HOST}:{server.port}", "HostKey": folder / "server", "PidFile": "none"}
    settings |= {"AuthorizedKeysFile": folder / "authorized", "StrictModes": "no", "UsePAM": "no"}
    _write(folder / "sshd_config", settings)
    known = {"UserKnownHostsFile": folder / "known", "GlobalKnownHostsFile": "none"}
    login = {"User": getpass.getuser(), "IdentityFile": folder / "client", "IdentitiesOnly": "yes"}
    _write(folder / "config", {"Host": "far", "HostName": HOST, "Port": server.port, **login, **known})
    ssh = folder / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/config "$@"\n')
    ssh.chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        try:
            eventually("an SSH server", lambda: _listens(server.port), process=process, ignoring=(OSError,))
            yield server
        finally:
            process.terminate()
            process.wait()


def _write(file: Path, settings: dict[str, object]) -> None:
    file.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))


def _listens(port: int) -> bool:
    with socket.create_connection((HOST, port)):
        return True
