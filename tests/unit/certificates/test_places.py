"""The keeper's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kryonix.certificates.authority import Authority
from kryonix.certificates.places import read_keeper_file
from kryonix.errors import InvalidChoice

CA = Authority.create("Kryonix test CA 1")
OTHER = Authority.create("Kryonix test CA 2")
PLACE = {"role": "rabbitmq", "folder": "/tls/rabbitmq", "names": ["rabbitmq", "::0001"], "endpoint": "[fd00::2]:5671"}

ACME = {"directory": "https://ca.example/dir", "folder": "/tls/acme", "names": ["a.example"], "trusted": CA.certificate}


def document(**changed: Any) -> dict[str, Any]:
    issuing = {"certificate": CA.certificate, "key": CA.key}
    return {"authorities": {"issuing": issuing, "trusted": CA.certificate}, "places": [PLACE], **changed}


def written(folder: Path, value: Any) -> Path:
    file = folder / "certificates.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return file


def test_a_place_has_its_address_and_names_as_certificates_show_them(tmp_path: Path) -> None:
    found = read_keeper_file(written(tmp_path, document()))
    (place,) = found.places
    assert place.address == ("fd00::2", 5671)
    assert place.names == ("rabbitmq", "::1")
    assert (place.starttls, found.source, found.registry_dsn) == ("", None, None)


def test_another_directory_has_a_folder_of_its_own(tmp_path: Path) -> None:
    test, real = (
        read_keeper_file(written(tmp_path, document(acme={**ACME, "directory": f"https://ca.example/{name}"}))).acme
        for name in ("test", "real")
    )
    assert test
    assert real
    assert test.kept != real.kept
    assert test.kept.parent == real.kept.parent == Path("/tls/acme")


def test_no_secret_is_in_a_repr(tmp_path: Path) -> None:
    found = read_keeper_file(written(tmp_path, document(registry_dsn="postgresql://keeper:a-secret@postgres/kryonix")))
    assert "PRIVATE KEY" not in repr(found)
    assert "a-secret" not in repr(found)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("no JSON", "Invalid JSON"),
        (document(places=[{**PLACE, "endpoint": "rabbitmq"}]), "places.0.endpoint"),
        (document(places=[{**PLACE, "names": []}]), "places.0.names"),
        (document(places=[{**PLACE, "starttls": "smtp"}]), "places.0.starttls"),
        (document(other="x"), "other: Extra inputs are not permitted"),
        (document(places=[{**PLACE, "public": True}]), "a public place needs acme"),
        (document(acme=ACME, source="/tls/own"), "acme is beside authorities.issuing"),
        (document(acme={**ACME, "names": []}), "acme.names"),
        (document(acme={**ACME, "directory": "http://ca.example/dir"}), "acme.directory"),
        (document(authorities={"trusted": CA.certificate}), "give authorities.issuing, or source"),
        (document(authorities={"issuing": {"certificate": CA.certificate, "key": OTHER.key}}), "not that of its"),
        (document(authorities={"issuing": {"certificate": "x", "key": OTHER.key}}), "the CA can't be read"),
        (document(authorities={"issuing": {"certificate": CA.certificate, "key": "x"}}), "the CA can't be read"),
    ],
)
def test_a_broken_file_is_refused_without_its_secrets(tmp_path: Path, value: Any, problem: str) -> None:
    with pytest.raises(InvalidChoice) as caught:
        read_keeper_file(written(tmp_path, value))
    assert problem in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidChoice, match=r"certificates\.json' can't be read: No such file"):
        read_keeper_file(tmp_path / "certificates.json")
