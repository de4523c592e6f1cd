"""Certificates by ACME, from Pebble."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server
from threading import Event, Thread
from typing import Any

import pytest

from kryonix.certificates import acme as acme_module
from kryonix.certificates.acme import AcmeFailed, obtain
from kryonix.certificates.authority import Authority
from kryonix.certificates.keeper import Keeper, PlaceStatus
from kryonix.certificates.leaf import Leaf
from kryonix.certificates.placement import placed
from kryonix.certificates.places import Acme, read_keeper_file
from kryonix.certificates.served import served
from kryonix.certificates.serving import serving_context
from tests.support.pebble import HOST, Pebble, pebble
from tests.support.project import free_port
from tests.support.waiting import eventually

NAMES = ("messaging.example.com", "mensagens.example.com")
CA = Authority.create("Kryonix test CA 1")
CA_NAME = "CN=Kryonix test CA 1"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble(tmp_path_factory.mktemp("pebble")) as made:
        yield made


def settings(ca: Pebble, folder: Path, **changed: Any) -> Acme:
    given = {"directory": ca.directory, "names": NAMES, "port": ca.port, "trusted": ca.trusted(), **changed}
    acme = Acme.model_validate({**given, "folder": folder})
    acme.kept.mkdir(exist_ok=True)
    return acme


def test_a_certificate_is_issued_with_an_account_that_is_kept(ca: Pebble, tmp_path: Path) -> None:
    acme = settings(ca, tmp_path, contact="operators@example.com")
    first = obtain(acme)
    account = (acme.kept / "account.pem").read_text()
    assert set(first.names) == set(NAMES)
    first.check(ca.root(), NAMES, first.starts)
    assert placed(acme.kept) == first
    second = obtain(settings(ca, tmp_path))
    assert second.serial != first.serial
    assert (acme.kept / "account.pem").read_text() == account
    assert {file.stat().st_mode & 0o077 for file in acme.kept.glob("*.pem")} == {0}


def test_a_name_that_leads_elsewhere_is_not_asked_for_again_at_once(ca: Pebble, tmp_path: Path) -> None:
    failed = (
        r"messaging\.example\.com: .* Port 80 of these names has to lead to port .* next attempt is at \d\d:\d\d UTC"
    )
    with pytest.raises(AcmeFailed, match=failed) as caught:
        obtain(settings(ca, tmp_path, port=free_port()))
    with pytest.raises(AcmeFailed, match=re.escape(str(caught.value))):
        obtain(settings(ca, tmp_path))
    obtain(settings(ca, tmp_path), force=True)
    obtain(settings(ca, tmp_path))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"trusted": CA.certificate}, "wrong CA: "),
        ({"directory": f"https://{HOST}:{free_port()}/dir"}, "refused"),
        ({"names": ["10.0.0.1x_"]}, "."),
    ],
)
def test_what_a_ca_refuses_is_told(ca: Pebble, tmp_path: Path, changed: dict[str, Any], problem: str) -> None:
    acme = settings(ca, tmp_path, **changed)
    with pytest.raises(AcmeFailed, match=problem) as caught:
        obtain(acme)
    assert str(caught.value).startswith(f"{acme.directory} issued nothing: ")


@pytest.mark.parametrize("error", [KeyError("newNonce"), TypeError("null"), ValueError("a\ud800\x1b[31m\nb")])
def test_what_no_ca_answers_is_told_in_a_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def issued(acme: Acme) -> Leaf:
        raise error

    monkeypatch.setattr(acme_module, "_issued", issued)
    acme = Acme(directory="https://ca.example/", names=NAMES, folder=tmp_path, trusted="")
    acme.kept.mkdir()
    with pytest.raises(AcmeFailed, match=r"ca\.example/ issued nothing: .") as caught:
        obtain(acme)
    assert str(caught.value).isprintable()
    assert "meanwhile" not in str(caught.value)


def test_a_ca_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Event()
    monkeypatch.setattr(acme_module, "_issued", lambda acme: ended.wait())
    monkeypatch.setattr(acme_module, "_TOTAL_S", 0.05)
    acme = Acme(directory="https://ca.example/", names=NAMES, folder=tmp_path, trusted="")
    acme.kept.mkdir()
    with pytest.raises(AcmeFailed, match=r"did not finish within 0\.05 s"):
        obtain(acme)
    ended.set()


class Kept:
    """A keeper with one place, whose service, as the signup service, serves what it finds there."""

    def __init__(self, ca: Pebble, folder: Path) -> None:
        self.place, self.folder, self.port = folder / "web", folder, free_port()
        for each in (self.place, folder / "acme"):
            each.mkdir()
        os.chown(self.place, 1234, 1234)
        self.document: dict[str, Any] = {
            "authorities": {
                "issuing": {"certificate": CA.certificate, "key": CA.key},
                "trusted": CA.certificate,
            },
            "places": [
                {
                    "role": "web",
                    "folder": str(self.place),
                    "names": ["web", *NAMES],
                    "endpoint": f"{HOST}:{self.port}",
                    "public": True,
                }
            ],
        }
        self.acme: dict[str, Any] = {
            "directory": ca.directory,
            "folder": str(folder / "acme"),
            "names": NAMES,
            "port": ca.port,
            "trusted": ca.trusted(),
        }
        self.keeper = self.start()
        self.round()

    def start(self, now: Callable[[], datetime] = lambda: datetime.now(UTC), **acme: Any) -> Keeper:
        file = self.folder / "certificates.json"
        file.write_text(json.dumps({**self.document, "acme": {**self.acme, **acme}}))
        self.keeper = Keeper(read_keeper_file(file), self.folder, now=now)
        return self.keeper

    def round(self) -> PlaceStatus:
        """Return how the public certificate is. The service's own is served, whatever the CA outside does."""
        own, public = self.keeper.round(patience=0)
        assert own.role == "web"
        assert public.role == "public"
        if own.state != "not answering":
            assert own.state == "served"
            assert served(HOST, self.port, name="web").issuer == CA_NAME
        return public

    def shown(self) -> str:
        """Return who has issued what the service shows under a public name."""
        return served(HOST, self.port, name=NAMES[1].upper()).issuer


@pytest.fixture
def kept(ca: Pebble, tmp_path: Path) -> Iterator[Kept]:
    made = Kept(ca, tmp_path)
    context = serving_context(made.place / "server.pem")

    def answer() -> None:
        with suppress(OSError):  # ends when the listener is shut down
            while True:
                connection, _ = listener.accept()
                with suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

    with create_server((HOST, made.port)) as listener:
        thread = Thread(target=answer)
        thread.start()
        try:
            yield made
        finally:
            listener.shutdown(2)
            thread.join()


def test_what_is_issued_is_shown_under_public_names_and_renewed_in_time(kept: Kept) -> None:
    assert (kept.round().state, kept.shown()) == ("waiting", CA_NAME)
    assert kept.keeper.order()
    status = kept.round()
    assert (status.state, status.problem, set(status.names)) == ("served", "", set(NAMES))
    assert "Pebble" in kept.shown()
    assert status.renews < status.expires
    assert (kept.place / "public.pem").stat().st_uid == 1234
    assert not kept.keeper.order()
    assert not kept.start().order()
    due = datetime.fromisoformat(status.renews) + timedelta(seconds=1)
    assert kept.start(lambda: due).order()
    assert kept.start().round(patience=0)[1].serial != status.serial
    assert kept.keeper.order(force=True)


def test_a_ca_that_is_away_changes_nothing_that_is_shown(kept: Kept) -> None:
    away = f"https://{HOST}:{free_port()}/dir"
    assert kept.start(directory=away).order(), "the reason is news"
    assert not kept.keeper.order(), "and asked again it is the same"
    status = kept.round()
    assert (status.state, kept.shown()) == ("rejected", CA_NAME)
    assert f"{away} issued nothing: " in status.problem
    assert kept.start().order()
    serial = kept.round().serial
    kept.start(directory=away).order()
    status = kept.round()
    assert (status.state, status.serial, "Pebble" in kept.shown()) == ("rejected", serial, True)


def test_what_clients_would_refuse_is_not_shown_and_not_asked_for_again(kept: Kept) -> None:
    assert kept.keeper.order()
    assert kept.round().state == "served"
    assert "Pebble" in kept.shown()
    kept.start(trusted=kept.acme["trusted"].rpartition("-----BEGIN")[0])
    status = kept.round()
    assert (status.state, kept.shown()) == ("rejected", CA_NAME)
    assert "issued one that clients refuse: not issued by a trusted CA" in status.problem
    assert not kept.keeper.order()
    kept.start()
    assert kept.round().state == "served"


def test_a_service_goes_on_under_its_public_names_without_acme(kept: Kept) -> None:
    kept.keeper.order()
    kept.round()
    (place,) = kept.document["places"]
    file = kept.folder / "certificates.json"
    file.write_text(json.dumps({**kept.document, "places": [{**place, "public": False}]}))
    (status,) = Keeper(read_keeper_file(file), kept.folder).round(patience=0)
    assert (status.state, kept.shown()) == ("served", CA_NAME)


def test_a_refusal_is_told_at_once_and_no_round_follows_soon(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryonix.certificates.keeper._RETRY_S", 0.05)  # after a problem that a round can mend
    rounds, stop = [], Event()
    keeper = kept.start(directory=f"https://{HOST}:{free_port()}/dir")
    whole = keeper.round

    def counted(**options: Any) -> list[PlaceStatus]:
        rounds.append(whole(**options))
        return rounds[-1]

    keeper.round = counted  # type: ignore[method-assign]
    running = Thread(target=keeper.run, args=(stop,), kwargs={"interval": 600, "patience": 0})
    running.start()
    try:
        eventually("the reason is told", lambda: len(rounds) > 1)
        time.sleep(0.5)
        assert [each[1].state for each in rounds] == ["waiting", "rejected"]
    finally:
        stop.set()
        running.join()
