"""HostSettings: the Docker hosts of a platform's nodes."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import pulumi

from components.errors import InvalidStack

_KEY: Final = "kryonix:hosts"
_CERTIFICATES: Final = "DOCKER_CERT_PATH"


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine of one node: the address where clients and other nodes reach it, and its Docker daemon's URL."""

    address: str
    docker: str = ""
    """Empty for this machine's own daemon."""


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """The machines in the order of the nodes. None: all nodes are on one machine, by the default Docker daemon."""

    hosts: Sequence[Host] = ()
    faults: Sequence[str] = ()
    """What is wrong with the list itself."""

    @classmethod
    def load(cls, config: pulumi.Config) -> HostSettings:
        entries, faults = config.require_object("hosts"), []
        for number, entry in enumerate(entries, 1):
            if not isinstance(entry, dict) or "address" not in entry or set(entry) - {"address", "docker"}:
                faults.append(f"{_KEY}: entry {number} must have `address`, may have `docker`, and nothing else")
        hosts = [] if faults else [_host(entry) for entry in entries]
        return cls(hosts=hosts, faults=faults)

    def __bool__(self) -> bool:
        return bool(self.hosts)

    @property
    def first(self) -> Host:
        return self.hosts[0]

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts)

    def machine(self, number: int) -> dict[str, str]:
        """Return what a node's entry in the stack's outputs says of its machine; nothing without a list."""
        return {"machine": self.hosts[number - 1].address} if self.hosts else {}

    def refuse_moves(self, outputs: Mapping[str, Any]) -> None:
        """Raise InvalidStack if a node that exists would be made on another machine: its messages stay on this one.

        Raise it too if nodes of a cluster would lose each other, because several get another address.

        `outputs` are the previous run's.
        """
        before: Sequence[Mapping[str, Any]] = (outputs.get("broker_nodes") or [{}]) if outputs else ()
        was = [entry.get("docker") or "" if "machine" in entry else None for entry in before]
        now: list[str | None] = [host.docker for host in self.hosts] or [None] * len(was)
        if moved := [number for number, (old, new) in enumerate(zip(was, now, strict=False), 1) if old != new]:
            raise InvalidStack(
                f"{_KEY}: node {moved[0]} would get another Docker daemon, and leave its volume with its messages "
                "behind. Nothing has been changed. Take the change back. The machine that replaces a lost one takes "
                "over its addresses; to use other machines, move the tenants to another platform (docs/scale.md)"
            )
        addresses = [(entry.get("machine"), host.address) for entry, host in zip(before, self.hosts, strict=False)]
        if len(before) > 1 and sum(old != new for old, new in addresses) > 1:
            raise InvalidStack(
                f"{_KEY}: the addresses of several nodes would change at once. The first one that gets its new address "
                "could not reach another, which still has its old one. Nothing has been changed. Change one node's "
                f"address, run `kryonix cluster roll --stack {pulumi.get_stack()}`, then change the next"
            )

    def problems(self, nodes: int, *, tls: bool) -> list[str]:
        """Return what keeps this number of nodes from running on these machines."""
        if not self.hosts:
            return list(self.faults)
        problems = [problem for host in self.hosts for problem in _problems(host)]
        if len(self.hosts) != nodes:
            remedy = "List one per node, in order"
            problems.append(f"{_KEY}: {len(self.hosts)} hosts for {nodes} nodes (kryonix:brokerNodes). {remedy}")
        for name, given in (("address", [h.address for h in self.hosts]), ("docker", [h.docker for h in self.hosts])):
            twice = next((value for value in given if given.count(value) > 1), None)
            if twice is not None:
                problems.append(f"{_KEY}: two hosts have the {name} {twice!r}. Use a machine of its own for each node")
        if not tls:
            remedy = 'Set kryonix:tls to "true"'
            problems.append(f"{_KEY}: the nodes would speak plain text with each other over the network. {remedy}")
        by_tls = [host.docker.startswith("tcp:") for host in self.hosts]
        if any(by_tls) and not all(by_tls):
            remedy = "Use tcp:// for all of them, or for none"
            problems.append(
                f"{_KEY}: one folder of certificates ({_CERTIFICATES}) is for every Docker daemon. {remedy}"
            )
        if any(by_tls) and not os.environ.get(_CERTIFICATES):
            remedy = f"Set {_CERTIFICATES} to the folder with ca.pem, cert.pem and key.pem"
            problems.append(f"{_KEY}: tcp:// without TLS gives anyone the machine. {remedy}")
        return problems


def _host(entry: dict[str, Any]) -> Host:
    return Host(address=str(entry["address"]), docker=str(entry.get("docker") or ""))


def _problems(host: Host) -> list[str]:
    problems = []
    if not _is_ipv4(host.address):
        # Docker maps the nodes' names to addresses only, and its provider can't read IPv6 ones back.
        problems.append(f"{_KEY}: {host.address!r} is not an IPv4 address that other machines reach. Give one")
    if not host.docker or _is_daemon(host.docker):
        return problems
    remedy = "Write ssh://USER@HOST, tcp://HOST:2376, or nothing for this machine's"
    # Not as it was given: it may hold a password.
    return [*problems, f"{_KEY}: the `docker` of {host.address} is not the URL of a Docker daemon. {remedy}"]


def _is_daemon(docker: str) -> bool:
    with suppress(ValueError):
        url = urlsplit(docker)
        known = docker.startswith(("ssh://", "tcp://")) and url.path in ("", "/") and not (url.query or url.fragment)
        return bool(known and url.hostname and url.port != 0 and url.password is None)
    return False


def _is_ipv4(address: str) -> bool:
    try:
        found = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_unspecified)
