"""Certificates by ACME, from Pebble."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kryonix.certificates.acme import AcmeFailed, obtain
from kryonix.certificates.keeper import Keeper, PlaceStatus
from kryonix.certificates.leaf import Leaf
from kryonix.certificates.placement import placed
from kryonix.certificates.places import Acme, read_keeper_file
from tests.support.pebble import HOST, Pebble, pebble
from tests.support.project import free_port

NAMES = ("messaging.example.com", "mensagens.example.com")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble(tmp_path_factory.mktemp("pebble")) as made:
        yield made


def settings(ca: Pebble, **changed: Any) -> Acme:
    given = {"directory": ca.directory, "names": NAMES, "port": ca.port, "directory_ca": ca.own_ca, **changed}
    return Acme.model_validate(given)


def test_a_certificate_is_issued_with_an_account_that_is_kept(ca: Pebble, tmp_path: Path) -> None:
    first = obtain(settings(ca, contact="operators@example.com"), tmp_path)
    account = (tmp_path / "account.pem").read_text()
    assert set(first.names) == set(NAMES)
    first.check(ca.root(), NAMES, first.starts)
    assert placed(tmp_path) == first
    second = obtain(settings(ca), tmp_path)
    assert second.serial != first.serial
    assert (tmp_path / "account.pem").read_text() == account
    assert {file.stat().st_mode & 0o077 for file in tmp_path.glob("*.pem")} == {0}


def test_a_name_that_leads_elsewhere_is_not_asked_for_again_at_once(ca: Pebble, tmp_path: Path) -> None:
    with pytest.raises(AcmeFailed, match=r"messaging\.example\.com: .* has to reach port 80 of these names") as caught:
        obtain(settings(ca, port=free_port()), tmp_path)
    assert "the last attempt failed" not in str(caught.value)
    with pytest.raises(AcmeFailed, match=r"the last attempt failed; the next one is at \d\d:\d\d UTC"):
        obtain(settings(ca), tmp_path)
    obtain(settings(ca), tmp_path, force=True)
    obtain(settings(ca), tmp_path)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"directory_ca": ""}, "wrong CA: "),
        ({"directory": f"https://{HOST}:{free_port()}/dir"}, "refused"),
        ({"names": ["10.0.0.1x_"]}, "."),
        ({"directory_ca": "no PEM"}, "."),
    ],
)
def test_what_a_ca_refuses_is_told(ca: Pebble, tmp_path: Path, changed: dict[str, Any], problem: str) -> None:
    acme = settings(ca, **changed)
    with pytest.raises(AcmeFailed, match=problem) as caught:
        obtain(acme, tmp_path)
    assert str(caught.value).startswith(f"{acme.directory} issued nothing: ")


class Kept:
    """A keeper with one place, whose service does not run."""

    def __init__(self, ca: Pebble, folder: Path) -> None:
        self.source, self.place, self.folder = folder / "own", folder / "web", folder
        self.source.mkdir()
        self.place.mkdir()
        os.chown(self.place, 1234, 1234)
        places = [{"role": "web", "folder": str(self.place), "names": ["web", *NAMES], "endpoint": f"{HOST}:1"}]
        acme = {"directory": ca.directory, "names": NAMES, "port": ca.port, "directory_ca": ca.own_ca}
        document = {"authorities": {"trusted": ca.root()}, "places": places, "source": str(self.source), "acme": acme}
        self.file = folder / "certificates.json"
        self.file.write_text(json.dumps(document))

    def round(self, **options: Any) -> PlaceStatus:
        (status,) = Keeper(read_keeper_file(self.file), self.folder).round(patience=0, **options)
        return status

    def leaf(self) -> Leaf:
        found = placed(self.place)
        assert found
        return found


def test_the_keeper_places_what_is_issued_and_renews_it_when_asked(ca: Pebble, tmp_path: Path) -> None:
    kept = Kept(ca, tmp_path)
    status = kept.round()
    assert (status.state, set(status.names), bool(status.renews)) == ("not answering", set(NAMES), True)
    first = kept.leaf()
    kept.round()
    assert kept.leaf() == first
    kept.round(force=True)
    assert kept.leaf().serial != first.serial
    assert (kept.place / "server.pem").stat().st_uid == 1234


def test_a_ca_that_is_away_leaves_the_old_one_and_is_named(ca: Pebble, tmp_path: Path) -> None:
    kept = Kept(ca, tmp_path)
    document = json.loads(kept.file.read_text())
    away = {**document["acme"], "directory": f"https://{HOST}:{free_port()}/dir"}
    kept.file.write_text(json.dumps({**document, "acme": away}))
    status = kept.round()
    assert (status.state, "issued nothing" in status.problem) == ("rejected", True)
    kept.file.write_text(json.dumps(document))
    kept.round(force=True)
    first = kept.leaf()
    kept.file.write_text(json.dumps({**document, "acme": away}))
    assert kept.round(force=True).state == "not answering"
    assert kept.leaf() == first
