"""Several Docker hosts on this machine: a daemon per network namespace, each with an address of its own. Needs root."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import docker
import requests
from docker import DockerClient
from docker.errors import DockerException

from kryonix.certificates.authority import Authority
from tests.support.waiting import eventually

__all__ = ["DockerHost", "DockerHosts", "docker_hosts"]

_PORT: Final = 2376
_SHARED: Final = ("image", "overlay2")
"""Folders of a daemon's data with its images: layers are never written again, so hosts share them as hard links."""


@dataclass
class DockerHost:
    """A daemon in a network namespace. It listens on its address with mutual TLS, and on a socket for the tests."""

    namespace: str
    address: str
    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def docker(self) -> str:
        """Return the URL of the daemon as a stack's config has it."""
        return f"tcp://{self.address}:{_PORT}"

    @property
    def socket(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def pid(self) -> int:
        """Return the daemon's process, which is in the host's namespace."""
        assert self._process is not None
        return self._process.pid

    @contextmanager
    def client(self) -> Iterator[DockerClient]:
        """Yield a client by the socket, which works while the network is cut."""
        with closing(DockerClient(base_url=self.socket)) as client:
            yield client

    def start(self) -> None:
        """Start the daemon and wait for it. Containers start again by their restart policy."""
        data, run, pem = self.folder / "data", self.folder / "run", self.folder / "tls"
        inside = ["nsenter", f"--net=/run/netns/{self.namespace}", "setpriv", "--pdeathsig", "TERM"]
        listening = ["-H", self.socket, "-H", self.docker, "--tlsverify", f"--tlscacert={pem}/ca.pem"]
        files = [f"--tlscert={pem}/cert.pem", f"--tlskey={pem}/key.pem", f"--pidfile={self.folder}/pid"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*inside, "dockerd", f"--data-root={data}", f"--exec-root={run}", *listening, *files],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(f"a daemon at {self.socket}", self._answers, process=self._process)

    def stop(self) -> None:
        """Stop the daemon in order, and its containers with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def lose(self) -> None:
        """Cut the power: the network is gone at once, and every process ends without a goodbye."""
        self.cut()
        assert self._process is not None
        with self.client() as client:
            containers = [container.attrs["State"]["Pid"] for container in client.containers.list()]
        for pid in (*self._processes(), *containers):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        _remove(self.folder / "run")  # in memory on a real host
        (self.folder / "pid").unlink(missing_ok=True)

    def bring_back(self) -> None:
        """Give the power back after `lose`."""
        self.mend()
        self.start()

    def cut(self) -> None:
        """Drop the host off the network; its daemon and its containers go on."""
        _ip("-n", self.namespace, "link", "set", "wire", "down")

    def mend(self) -> None:
        _ip("-n", self.namespace, "link", "set", "wire", "up")
        _ip("-n", self.namespace, "route", "replace", "default", "via", _router(self.address))

    def _processes(self) -> list[int]:
        """Return the daemon, its containerd and the shims of its containers."""
        own, found = f"{self.folder}/".encode(), []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if own in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def _answers(self) -> bool:
        with suppress(DockerException, requests.RequestException), self.client() as client:
            return bool(client.ping())
        return False


@dataclass(frozen=True)
class DockerHosts:
    """The hosts, and the folder with the client's certificate for their daemons, as DOCKER_CERT_PATH has it."""

    hosts: Sequence[DockerHost]
    certificates: Path

    def __iter__(self) -> Iterator[DockerHost]:
        return iter(self.hosts)

    def __getitem__(self, i: int) -> DockerHost:
        return self.hosts[i]


@contextmanager
def docker_hosts(*images: str, count: int = 3) -> Iterator[DockerHosts]:
    """Run Docker hosts that have these images of this machine's daemon, and can reach each other, for the block."""
    assert os.geteuid() == 0, "Docker hosts in network namespaces need root"
    name = f"kx{secrets.token_hex(3)}"
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/var/tmp"))
        stack.callback(_remove, folder)
        network = stack.enter_context(_switch(name))
        hosts = [DockerHost(f"{name}-{n}", f"{network}.{10 + n}", folder / str(n)) for n in range(1, count + 1)]
        certificates = folder / "client"
        _certify(hosts, certificates)
        for n, host in enumerate(hosts, 1):
            stack.enter_context(_namespace(host, f"{name}-switch", f"host{n}"))
            stack.callback(_end, host)
        _load(hosts[0], images)
        for host in hosts:
            if host is not hosts[0]:
                _link(hosts[0], host)
        for host in hosts:
            host.start()
        yield DockerHosts(hosts, certificates)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _router(address: str) -> str:
    """Return this machine's address on the hosts' network."""
    return f"{address.rpartition('.')[0]}.1"


@contextmanager
def _switch(name: str) -> Iterator[str]:
    """Connect a bridge with this machine; the first three numbers of its network's addresses.

    The bridge has a namespace of its own: in this machine's, Docker's rules drop what a bridge forwards.
    """
    network, switch = f"198.18.{random.randrange(256)}", f"{name}-switch"  # a range for tests of networks
    _ip("netns", "add", switch)
    try:
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        _ip("link", "add", name, "type", "veth", "peer", "name", "uplink", "netns", switch)
        _ip("-n", switch, "link", "set", "uplink", "master", "bridge", "up")
        _ip("address", "add", f"{network}.1/24", "dev", name)
        _ip("link", "set", name, "up")
        yield network
    finally:
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
        _ip("netns", "delete", switch)


@contextmanager
def _namespace(host: DockerHost, switch: str, port: str) -> Iterator[None]:
    _ip("netns", "add", host.namespace)
    try:
        _ip("-n", host.namespace, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "wire", "netns", host.namespace)
        _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
        _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "wire")
        host.mend()
        yield
    finally:
        _ip("netns", "delete", host.namespace)


def _certify(hosts: Sequence[DockerHost], certificates: Path) -> None:
    """Write the daemons' and the client's certificates, in the files that Docker's own tools expect."""
    authority = Authority.create("Docker of a test")
    leaves = {host.folder / "tls": authority.issue_server([host.address]) for host in hosts}
    leaves[certificates] = authority.issue_client("operator")
    for folder, leaf in leaves.items():
        folder.mkdir(parents=True)
        (folder / "ca.pem").write_text(authority.certificate)
        (folder / "cert.pem").write_text(leaf.chain)
        (folder / "key.pem").write_text(leaf.key)
        (folder / "key.pem").chmod(0o600)


def _load(host: DockerHost, images: Sequence[str]) -> None:
    """Copy images into a host that has none yet, and stop it."""
    host.start()
    with closing(docker.from_env()) as source, host.client() as target:
        for image in images:
            target.api.load_image(_saved(source, image))
    host.stop()


def _saved(source: DockerClient, image: str) -> Any:
    return source.images.get(image).save(named=image)


def _link(first: DockerHost, other: DockerHost) -> None:
    """Give a host, which has not run yet, the images of the first: a second, where loading them takes 15."""
    for part in _SHARED:
        shutil.copytree(
            first.folder / "data" / part, other.folder / "data" / part, symlinks=True, copy_function=os.link
        )


def _end(host: DockerHost) -> None:
    """Remove a host's containers, whatever the test left of it."""
    if host._process is not None:
        with suppress(DockerException, requests.RequestException), host.client() as client:
            for container in client.containers.list(all=True):
                container.remove(force=True, v=True)
        host.stop()


def _remove(folder: Path) -> None:
    """Remove a folder, and what a killed daemon left mounted in it."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in reversed([path for path in mounted if path.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", path], check=False)
    shutil.rmtree(folder)
