"""A server's context serves a renewed certificate at once, and the former one while the new can't be read."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from socket import create_server
from threading import Thread

import pytest

from kryonix.certificates.authority import Authority
from kryonix.certificates.leaf import Leaf
from kryonix.certificates.served import served
from kryonix.certificates.serving import serving_context

HOST = "127.0.0.1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.pem"


def put(file: Path, content: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(content)
    new.replace(file)


@pytest.fixture
def port(file: Path) -> Iterator[int]:
    put(file, issued().pem)
    context = serving_context(file)

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    with create_server((HOST, 0)) as listener:
        thread = Thread(target=answer, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(2)
        thread.join()


def issued() -> Leaf:
    return Authority.create("a CA").issue_server([HOST])


def test_a_renewed_certificate_is_served_to_the_next_client(file: Path, port: int) -> None:
    first = served(HOST, port).serial
    renewed = issued()
    put(file, renewed.pem)
    assert served(HOST, port).serial == renewed.serial != first


def test_the_former_certificate_is_served_while_the_new_one_is_broken(file: Path, port: int) -> None:
    first = served(HOST, port).serial
    put(file, "not a certificate")
    assert served(HOST, port).serial == first
    file.unlink()
    assert served(HOST, port).serial == first
    renewed = issued()
    put(file, renewed.pem)
    assert served(HOST, port).serial == renewed.serial


def test_a_server_without_a_certificate_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        serving_context(tmp_path / "absent.pem")
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ssl.SSLError):
        serving_context(tmp_path / "empty.pem")
