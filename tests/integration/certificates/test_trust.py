"""What each client library's error says about a failed handshake with a real server."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import aio_pika
import httpx
import psycopg
import pytest
import urllib3

from kryonix.certificates.trust import context, trust_file, why
from kryonix.errors import InvalidChoice
from tests.support.tls import CA, FAULTS, HOST, faulty, serving

TIMEOUT = 20


def by_ssl(port: int) -> None:
    with socket.create_connection((HOST, port), timeout=TIMEOUT) as plain:
        context(CA.pem).wrap_socket(plain, server_hostname=HOST).close()


def by_httpx(port: int) -> None:
    httpx.get(f"https://{HOST}:{port}", verify=context(CA.pem), timeout=TIMEOUT)


def by_urllib3(port: int) -> None:
    with urllib3.PoolManager(ssl_context=context(CA.pem), timeout=TIMEOUT) as pool:
        pool.request("GET", f"https://{HOST}:{port}", retries=False)


def by_urllib3_with_retries(port: int) -> None:
    with urllib3.PoolManager(ssl_context=context(CA.pem), timeout=TIMEOUT) as pool:
        pool.request("GET", f"https://{HOST}:{port}", retries=1)


def by_aio_pika(port: int) -> None:
    async def connect() -> None:
        await aio_pika.connect(f"amqps://a:b@{HOST}:{port}/", ssl_context=context(CA.pem), timeout=TIMEOUT)

    asyncio.run(connect())


def by_psycopg(port: int) -> None:
    trust = f"sslmode=verify-full sslrootcert={trust_file(CA.pem)}"
    psycopg.connect(f"host={HOST} port={port} user=a password=b connect_timeout={TIMEOUT} {trust}")


CLIENTS = (by_ssl, by_httpx, by_urllib3, by_urllib3_with_retries, by_aio_pika, by_psycopg)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_told_whatever_library_meets_it(fault: str, client: Callable[[int], None]) -> None:
    with serving(faulty(fault)) as port:
        with pytest.raises(Exception) as caught:
            client(port)
        told = why(caught.value, HOST) or ""  # while the server runs: after libpq the handshake is repeated
    assert told.startswith(f"{fault}: ")
    assert HOST in told


@pytest.mark.parametrize("client", [by_ssl, by_httpx, by_urllib3])
def test_a_good_certificate_is_accepted(client: Callable[[int], None]) -> None:
    with serving(faulty("good")) as port:
        client(port)


@pytest.mark.parametrize("client", [by_ssl, by_httpx, by_urllib3, by_aio_pika, by_psycopg])
def test_a_service_that_does_not_answer_has_no_fault_of_tls(client: Callable[[int], None]) -> None:
    with serving(None) as port:
        pass
    with pytest.raises(Exception) as caught:
        client(port)
    assert why(caught.value, HOST) is None


def test_only_tls_1_2_and_1_3_are_spoken_and_everything_is_verified() -> None:
    for made in (context(CA.pem), context(None), context("")):
        assert made.minimum_version is ssl.TLSVersion.TLSv1_2
        assert (made.check_hostname, made.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert len(context(CA.pem).get_ca_certs()) == 1


def test_a_trusted_ca_that_is_no_pem_is_refused() -> None:
    with pytest.raises(InvalidChoice, match="BEGIN CERTIFICATE"):
        context("no PEM")


def test_a_trust_file_is_named_by_its_content_and_written_once(tmp_path: Path) -> None:
    path = trust_file(CA.pem)
    assert not Path(path).is_absolute()
    assert Path(path).read_text() == CA.pem
    written = Path(path).stat().st_mtime_ns
    assert (trust_file(CA.pem), Path(path).stat().st_mtime_ns) == (path, written)
    Path(path).write_text("half")
    assert Path(trust_file(CA.pem)).read_text() == CA.pem
    assert [each.name for each in (tmp_path / ".kryonix/trust").iterdir()] == [Path(path).name]


def test_a_trust_file_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".kryonix").write_text("a file")
    with pytest.raises(InvalidChoice, match=r"\.kryonix/trust/.* can't be written"):
        trust_file(CA.pem)
