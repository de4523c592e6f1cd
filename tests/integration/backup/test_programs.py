"""A bundle opens with the programs age, zstd and tar alone, and one made by them opens here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kryonix.backup.bundle import pack, unpack
from kryonix.backup.encryption import Identities, Recipients, new_identity
from kryonix.backup.errors import InvalidKey
from tests.support.bundles import MEMBERS, bundle, manifest


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_identity(tmp_path / "key.txt")
    return tmp_path / "key.txt"


def run(command: str, folder: Path) -> str:
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_bundle_opens_with_age_zstd_and_tar(tmp_path: Path, key: Path) -> None:
    recipient = run("age-keygen -y key.txt", tmp_path)
    (tmp_path / "bundle.tar.zst.age").write_bytes(pack(bundle(), Recipients.parse(recipient)))
    listed = run("age -d -i key.txt bundle.tar.zst.age | zstd -d | tar t", tmp_path)
    assert listed.split() == ["manifest.json", *sorted(MEMBERS)]
    run("mkdir out && age -d -i key.txt bundle.tar.zst.age | tar x --zstd -C out", tmp_path)
    unpacked = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert unpacked == {"manifest.json": manifest().to_json(), **MEMBERS}
    sums = "".join(f"{each.sha256}  out/{name}\n" for name, each in manifest().members.items())
    (tmp_path / "sums").write_text(sums)
    run("sha256sum --check --strict sums", tmp_path)


def test_a_bundle_made_with_tar_zstd_and_age_opens(tmp_path: Path, key: Path) -> None:
    for name, content in {"manifest.json": manifest().to_json(), **MEMBERS}.items():
        (tmp_path / name).write_bytes(content)
    files = " ".join(["manifest.json", *MEMBERS])
    run(f"tar c --format=ustar {files} | zstd | age -r $(age-keygen -y key.txt) > made", tmp_path)
    assert unpack((tmp_path / "made").read_bytes(), Identities.read([key]), "made") == bundle()


def test_a_new_identity_belongs_to_its_owner_and_is_never_replaced(tmp_path: Path, key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_text()
    with pytest.raises(InvalidKey, match="exists already, and a key is never written over"):
        new_identity(key)
    assert key.read_text() == before
    with pytest.raises(InvalidKey, match=r"can't be written \(No such file or directory\)"):
        new_identity(tmp_path / "absent" / "key.txt")


def test_a_file_of_keys_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match=r"absent: can't be read \(No such file or directory\)"):
        Identities.read([tmp_path / "absent"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidKey, match="binary: is not a text file of age keys"):
        Recipients.read([tmp_path / "binary"])


def test_several_files_of_keys_are_read(tmp_path: Path) -> None:
    recipients = [new_identity(tmp_path / name) for name in ("one", "two")]
    (tmp_path / "first").write_text(f"# one\n{recipients[0]}\n")
    (tmp_path / "second").write_text("\n".join(recipients))
    joined = Recipients.read([tmp_path / "first", tmp_path / "second"])
    assert list(joined.lines) == recipients
    assert Identities.read([tmp_path / "two"]).decrypt(joined.encrypt(b"x"), "x") == b"x"
