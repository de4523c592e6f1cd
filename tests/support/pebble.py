"""Pebble, the test server of Let's Encrypt: a CA that issues by ACME, with a DNS server in which every name is here."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection

import httpx

from kryonix.certificates.authority import Authority
from kryonix.certificates.trust import context
from tests.support.project import free_port
from tests.support.waiting import eventually

HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Pebble:
    """`port` is where it expects the challenge of http-01 to be answered."""

    directory: str
    port: int
    own_ca: str
    """Who issued the certificate of the directory (PEM)."""
    management: str

    def root(self) -> str:
        """Return the CA that issues, which is another one each time (PEM)."""
        return httpx.get(f"{self.management}/roots/0", verify=context(self.own_ca)).raise_for_status().text

    def trusted(self) -> str:
        """Return both CAs, as `kryonix:caCertificate` names them."""
        return self.own_ca + self.root()


@contextmanager
def pebble(folder: Path, host: str = HOST) -> Iterator[Pebble]:
    """Run it on an address of this machine. Some of its nonces are refused, as its default is."""
    own = Authority.create("Pebble's own CA")
    leaf = own.issue_server([HOST, host])
    (folder / "cert.pem").write_text(leaf.chain)
    (folder / "key.pem").write_text(leaf.key)
    directory, management, challenge, dns, control = (free_port() for _ in range(5))
    configuration = {
        "listenAddress": f"{host}:{directory}",
        "managementListenAddress": f"{HOST}:{management}",
        "certificate": str(folder / "cert.pem"),
        "privateKey": str(folder / "key.pem"),
        "httpPort": challenge,
        "tlsPort": free_port(),
    }
    file = folder / "pebble.json"
    file.write_text(json.dumps({"pebble": configuration}))
    resolver = ["pebble-challtestsrv", "-management", f"{HOST}:{control}", "-dns01", f"{HOST}:{dns}"]
    resolver += ["-defaultIPv4", HOST, "-defaultIPv6", "", *_switched_off()]
    server = ["pebble", "-config", str(file), "-dnsserver", f"{HOST}:{dns}"]
    quick = {**os.environ, "PEBBLE_VA_NOSLEEP": "1"}
    null = subprocess.DEVNULL
    with (
        subprocess.Popen(resolver, stdout=null, stderr=null) as names,
        subprocess.Popen(server, env=quick, stdout=null, stderr=null) as process,
    ):
        made = Pebble(
            directory=f"https://{host}:{directory}/dir",
            port=challenge,
            own_ca=own.certificate,
            management=f"https://{HOST}:{management}",
        )
        try:
            eventually("Pebble answers", made.root, process=process, ignoring=(httpx.TransportError,))
            eventually("its DNS server is there", lambda: _listens(control), process=names)
            yield made
        finally:
            process.kill()
            names.kill()


def _switched_off() -> list[str]:
    """Return the options that leave the DNS server without its servers of challenges; not every version has each."""
    known = subprocess.run(["pebble-challtestsrv", "-help"], capture_output=True, text=True).stderr
    return [
        part for name in ("http01", "https01", "tlsalpn01", "doh") if f"-{name} " in known for part in (f"-{name}", "")
    ]


def _listens(port: int) -> bool:
    try:
        create_connection((HOST, port), timeout=5).close()
    except OSError:
        return False
    return True
