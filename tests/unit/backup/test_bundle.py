"""A bundle comes back as it was packed; anything damaged or hostile is refused, and nothing of it is used."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kryonix.backup.bundle import Bundle, pack, unpack
from kryonix.backup.errors import InvalidBundle, WrongKey
from tests.support.bundles import MEMBERS, bundle, file, keys, manifest, sealed, tar

RECIPIENTS, IDENTITIES = keys()
PACKED = pack(bundle(), RECIPIENTS)
WHERE = "store/acme"


def opened(plain: bytes) -> Bundle:
    return unpack(sealed(plain, RECIPIENTS), IDENTITIES, WHERE)


def entries(text: bytes | None = None) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Return the entries of a whole bundle, with another manifest if one is given."""
    return [file("manifest.json", text or manifest().to_json()), *(file(*each) for each in sorted(MEMBERS.items()))]


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_-]{0,9}\.json", fullmatch=True), st.binary(max_size=2000)))
def test_every_bundle_comes_back_as_it_was_packed(members: dict[str, bytes]) -> None:
    members.pop("manifest.json", None)
    whole = bundle(members)
    assert unpack(pack(whole, RECIPIENTS), IDENTITIES, WHERE) == whole


def test_the_plain_tar_is_the_same_for_the_same_bundle() -> None:
    plain = [zstandard.decompress(IDENTITIES.decrypt(pack(bundle(), RECIPIENTS), WHERE)) for _ in range(2)]
    assert plain[0] == plain[1]


def test_a_bundle_made_by_hand_opens() -> None:
    assert opened(tar(entries())) == bundle()


def test_nothing_of_a_member_is_readable_in_a_packed_bundle() -> None:
    assert not [word for word in (b"manifest", b"acme", b"definitions", b"c2VjcmV0") if word in PACKED]


def test_a_bundle_is_shown_without_its_members() -> None:
    assert repr(bundle()) == "Bundle(tenant 'acme', ['definitions.json', 'users.json'])"


@pytest.mark.parametrize("bit", [0, 5])
def test_a_bit_flipped_anywhere_is_noticed(bit: int) -> None:
    for place in range(len(PACKED)):
        damaged = bytearray(PACKED)
        damaged[place] ^= 1 << bit
        with pytest.raises(InvalidBundle, match=WHERE):
            unpack(bytes(damaged), IDENTITIES, WHERE)


def test_a_bundle_cut_off_anywhere_is_noticed() -> None:
    for length in range(len(PACKED)):
        with pytest.raises(InvalidBundle, match=WHERE):
            unpack(PACKED[:length], IDENTITIES, WHERE)


def test_data_after_the_end_is_noticed() -> None:
    with pytest.raises(InvalidBundle, match=WHERE):
        unpack(PACKED + b"\0", IDENTITIES, WHERE)


def test_another_identity_does_not_open_a_bundle() -> None:
    with pytest.raises(WrongKey, match="none of the identities opens it"):
        unpack(PACKED, keys()[1], WHERE)


def test_each_of_several_identities_opens_a_bundle() -> None:
    other, its = keys()
    packed = pack(bundle(), type(other).joined([RECIPIENTS, other]))
    assert unpack(packed, its, WHERE) == unpack(packed, IDENTITIES, WHERE) == bundle()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("link.json", tarfile.SYMTYPE),
        ("link.json", tarfile.LNKTYPE),
        ("folder", tarfile.DIRTYPE),
        ("pipe.json", tarfile.FIFOTYPE),
        ("device.json", tarfile.CHRTYPE),
        ("sparse.json", tarfile.GNUTYPE_SPARSE),
        ("long.json", tarfile.GNUTYPE_LONGNAME),
        ("pax.json", tarfile.XHDTYPE),
        ("contiguous.json", tarfile.CONTTYPE),
    ],
)
def test_only_regular_files_are_accepted(name: str, kind: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(InvalidBundle, match="not a regular file"):
        opened(tar([*entries(), (info, b"")]))


@pytest.mark.parametrize("name", ["../evil.json", "/evil.json", "a/b.json", "evil.json", ".evil.json", ""])
def test_a_file_that_the_manifest_does_not_list_is_refused(name: str) -> None:
    with pytest.raises(InvalidBundle, match="which its manifest does not list once"):
        opened(tar([*entries(), file(name, b"")]))


@pytest.mark.parametrize("name", ["../evil.json", "/evil.json", "a/b.json", ".evil.json", "evil", "Evil.json", ""])
def test_a_manifest_can_not_list_a_name_that_is_not_flat(name: str) -> None:
    text = json.loads(manifest().to_json())
    text["members"][name] = {"sha256": "0" * 64, "bytes": 0}
    with pytest.raises(InvalidBundle, match=r"manifest\.json is not valid: members"):
        opened(tar(entries(json.dumps(text).encode())))


def test_a_file_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InvalidBundle, match=r"users\.json"):
        opened(tar([*entries(), file("users.json", MEMBERS["users.json"])]))


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (tar(entries()[1:]), "does not begin with manifest.json"),
        (tar([]), "does not begin with manifest.json"),
        (b"", "truncated"),
        (tar(entries()[:-1]), "users.json is missing"),
        (tar(entries()) + b"x", "holds data after its end"),
        (tar(entries())[:-9000], "truncated"),
        (b"hello" * 1000, "not a tar archive"),
        (tar([*entries()[:-1], file("users.json", b"[]")]), "users.json is not what its manifest says"),
    ],
    ids=["no manifest", "empty tar", "empty", "no member", "more", "cut off", "no tar", "another member"],
)
def test_an_archive_that_is_not_whole_is_refused(plain: bytes, reason: str) -> None:
    with pytest.raises(InvalidBundle, match=reason):
        opened(plain)


def bomb(header: bytes, size: int) -> bytes:
    """Return zstd data that unpacks to a header and as many zeros."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    zeros = bytes(1024 * 1024)
    parts = [compressor.compress(header), *(compressor.compress(zeros) for _ in range(size // len(zeros)))]
    return RECIPIENTS.encrypt(b"".join([*parts, compressor.flush()]))


def blocks(archive: bytes) -> bytes:
    """Return a tar without its end."""
    content = archive.rstrip(b"\0")
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def claiming(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    "header",
    [
        lambda: claiming("manifest.json", 2**30),
        lambda: tar(entries()),
        lambda: blocks(tar(entries()[:1])) + claiming("users.json", 2**33 - 1),
    ],
    ids=["manifest", "after the end", "member"],
)
def test_a_bomb_is_refused_before_it_fills_the_memory(header: Callable[[], bytes]) -> None:
    with pytest.raises(InvalidBundle, match="larger than a bundle may be"):
        unpack(bomb(header(), 80 * 1024 * 1024), IDENTITIES, WHERE)


def test_data_that_is_not_compressed_is_refused() -> None:
    with pytest.raises(InvalidBundle, match="not compressed by zstd"):
        unpack(RECIPIENTS.encrypt(tar(entries())), IDENTITIES, WHERE)


def altered(**changed: Any) -> bytes:
    return json.dumps({**json.loads(manifest().to_json()), **changed}).encode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (altered(format=2, tool="3.1.0"), r"has the format 2, and this .* up to 1\. Use a newer one; '3\.1\.0' made"),
        (altered(format=2, tool="\x1b[2J"), r"'\\x1b\[2J' made the bundle"),
        (altered(subject="acme\n"), r"manifest\.json is not valid: subject"),
        (altered(broker="\x1b[2J"), "manifest.json is not valid: broker"),
        (altered(**{"\x1b[2J": 1}), r"manifest\.json is not valid: \\x1b\[2J: Extra inputs"),
        (altered(format="1"), "manifest.json is not valid: format"),
        (altered(format=0), "manifest.json is not valid: format"),
        (altered(surprise=1), "manifest.json is not valid: surprise"),
        (altered(kind="galaxy"), "manifest.json is not valid: kind"),
        (altered(created_at="2026-11-29T02:00:00+01:00"), "created_at.*is not in UTC"),
        (altered(created_at="2026-11-29T02:00:00"), "manifest.json is not valid: created_at"),
        (altered(broker_nodes=0), "manifest.json is not valid: broker_nodes"),
        (altered(members={"users.json": {"sha256": "x", "bytes": 1}}), "manifest.json is not valid: members"),
        (b"[]", "not a JSON object"),
        (b"{", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_a_manifest_that_is_not_valid_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(InvalidBundle, match=reason):
        opened(tar(entries(text)))


def test_a_bundle_too_large_to_be_unpacked_is_not_packed() -> None:
    with pytest.raises(InvalidBundle, match="a bundle may have 67108864"):
        pack(bundle({"rows.json": bytes(64 * 1024 * 1024)}), RECIPIENTS)


def test_a_bundle_that_its_manifest_does_not_fit_is_not_packed() -> None:
    with pytest.raises(InvalidBundle, match=r"users\.json is missing"):
        pack(Bundle(manifest(), {"definitions.json": MEMBERS["definitions.json"]}), RECIPIENTS)
