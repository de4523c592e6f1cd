"""Docker's API on another machine, by the program `ssh` with the user's own config, keys and known hosts."""

from __future__ import annotations

import shlex
import socket
import subprocess
import tempfile
from http.client import HTTPException
from threading import Thread
from typing import IO, Any, Final
from urllib.parse import urlsplit

from docker.constants import DEFAULT_NUM_POOLS_SSH
from docker.errors import DockerException
from docker.transport.basehttpadapter import BaseHTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

_END_S: Final = 10
"""Seconds for `ssh` to end after its connection has."""
# Without a question: several connections at once would ask for one answer. A machine that dies is noticed in 45 s.
_OPTIONS: Final = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15")
_NO_DOCKER: Final = "that user has no program `docker` there. Install Docker with its command-line tool"
_NO_DAEMON: Final = "its Docker daemon does not run. Start it"
_REMEDIES: Final = {
    "HOST IDENTIFICATION HAS CHANGED": "its key is not the one in known_hosts. If the machine was replaced, compare "
    "its new key, remove the old one with `ssh-keygen -R`, and accept the new one by connecting once by hand",
    "Host key verification failed": "its key is not in known_hosts. Connect once by hand, compare it and accept it",
    "Permission denied (": "it accepts none of your keys. Name the right one in ~/.ssh/config (IdentityFile), or add "
    "it to your agent: one with a passphrase must be there",
    "docker: command not found": _NO_DOCKER,
    "docker: not found": _NO_DOCKER,
    "permission denied while trying to connect": "that user may not use Docker there. Add it to the group docker",
    "annot connect to the Docker daemon": _NO_DAEMON,
    "failed to open the raw stream connection": _NO_DAEMON,
}
"""What is wrong with a machine, by what `ssh` or the machine's `docker` writes. The first that is found counts."""


class SshFailed(DockerException):  # type: ignore[misc]  # docker has no types
    """The program `ssh` is missing, or ended instead of reaching a Docker daemon. The message has the remedy."""


class SshAdapter(BaseHTTPAdapter):  # type: ignore[misc]  # docker has no types
    """Send requests to the Docker daemon at a URL such as ssh://USER@HOST. A request may raise SshFailed."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__()
        self._pool = _Pool(url, timeout_s)

    def get_connection(self, url: Any, proxies: Any = None) -> HTTPConnectionPool:
        return self._pool

    def request_url(self, request: Any, proxies: Any) -> str:
        return str(request.path_url)

    def close(self) -> None:
        super().close()
        self._pool.close()


class _Pool(HTTPConnectionPool):
    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s, maxsize=DEFAULT_NUM_POOLS_SSH)
        self._url, self._timeout_s = url, timeout_s

    def _new_conn(self) -> Any:
        return _Connection(self._url, self._timeout_s)


class _Connection(HTTPConnection):
    """A connection whose other end is standard input and output of `ssh`."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._url = url
        self._ssh: _Ssh | None = None

    def connect(self) -> None:
        own, other = socket.socketpair()
        with other:
            own.settimeout(self.timeout)
            self.sock, self._ssh = own, _Ssh(self._url, other)

    def request(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().request(*args, **kwargs)
        except OSError:
            self._blame_ssh()
            raise

    def getresponse(self) -> Any:
        try:
            return super().getresponse()
        except TimeoutError as error:
            raise SshFailed(f"no answer for {self.timeout} s. Look whether the machine runs") from error
        except (HTTPException, OSError):
            self._blame_ssh()
            raise

    def _blame_ssh(self) -> None:
        """Raise SshFailed if `ssh` has failed."""
        if self._ssh is not None and (said := self._ssh.failure()) is not None:
            raise SshFailed(_explained(self._url, said))


class _Ssh:
    """A process of `ssh` with a socket. It ends with the last response, which may be after its connection."""

    def __init__(self, url: str, other: socket.socket) -> None:
        # A file, not a pipe: the shared connection of a user's config keeps it open for longer than the process.
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed where the process has ended
        command = ["ssh", *_OPTIONS, *_destination(url), "docker", "system", "dial-stdio"]
        try:
            # Not in the terminal's session: an interrupt is for this process, which ends the connection then.
            both = other.fileno()
            self._process = subprocess.Popen(  # noqa: S603  what the user names follows `--`, or is of an option
                command, stdin=both, stdout=both, stderr=errors, start_new_session=True
            )
        except OSError as error:
            errors.close()
            raise SshFailed(
                f"the program `ssh` can't be started: {error.strerror}. Install OpenSSH's client"
            ) from error
        self._said = ""
        self._end = Thread(target=self._wait, args=[errors], daemon=True)
        self._end.start()

    def failure(self) -> str | None:
        """Wait for the end; return what `ssh` wrote, None if it goes on or did not fail."""
        self._end.join(_END_S)
        return self._said if not self._end.is_alive() and self._process.returncode else None

    def _wait(self, errors: IO[bytes]) -> None:
        with errors:
            self._process.wait()
            errors.seek(0)
            self._said = errors.read().decode(errors="replace").strip()


def _destination(url: str) -> list[str]:
    parts = urlsplit(url)
    user = ["-l", parts.username] if parts.username else []
    port = ["-p", str(parts.port)] if parts.port else []
    return [*user, *port, "--", str(parts.hostname)]


def _explained(url: str, said: str) -> str:
    found = next((remedy for sign, remedy in _REMEDIES.items() if sign in said), "it can't be reached")
    by_hand = shlex.join(["ssh", *_destination(url), "docker", "version"])
    return f"{found}. Until `{by_hand}` works, this can't: {said.splitlines()[-1] if said else 'ssh ended'}"
