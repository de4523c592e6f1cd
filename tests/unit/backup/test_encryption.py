"""Recipients and identities are read as age reads them, and no message or repr shows an identity."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from kryonix.backup.encryption import Identities, Recipients
from kryonix.backup.errors import InvalidKey, WrongKey

IDENTITY = pyrage.x25519.Identity.generate()
PUBLIC, PRIVATE = str(IDENTITY.to_public()), str(IDENTITY)
OTHER = pyrage.x25519.Identity.generate()


def ssh_key(passphrase: bytes | None = None) -> tuple[str, str]:
    """Return a new SSH key: its public line and its private file."""
    key = ed25519.Ed25519PrivateKey.generate()
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, locked)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode(), private.decode()


def test_comments_and_empty_lines_are_left_out() -> None:
    recipients = Recipients.parse(f"# the operators\n\n{PUBLIC}\r\n  {OTHER.to_public()}  \n{PUBLIC}\n")
    assert recipients.lines == (PUBLIC, str(OTHER.to_public()))
    identities = Identities.parse(f"# created: now\n# public key: {PUBLIC}\n{PRIVATE}\n")
    assert identities.decrypt(recipients.encrypt(b"x"), "bundle") == b"x"


def test_ssh_keys_are_recipients_and_identities() -> None:
    public, private = ssh_key()
    packed = Recipients.parse(f"{public} operator@example.com").encrypt(b"x")
    assert Identities.parse(private).decrypt(packed, "bundle") == b"x"


def test_an_ssh_key_does_not_tell_its_recipient() -> None:
    with pytest.raises(InvalidKey, match="own: is an SSH key"):
        Identities.parse(ssh_key()[1]).recipients("own")


def test_an_identity_is_never_shown() -> None:
    identities = Identities.parse(PRIVATE)
    assert (repr(identities), str(identities)) == ("Identities()", "Identities()")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no recipient in it"),
        ("# nothing", "there is no recipient in it"),
        (f"{PUBLIC}\nage1qqq", "recipients, line 2: 'age1qqq' is not a valid recipient"),
        ("age1tagpq1qqq", "'age1tagpq1qqq' is not a valid recipient"),
        ("ssh-rsa AAA", "'ssh-rsa AAA' is not a valid recipient"),
        ("acme", "line 1: is not a recipient. Give a line `age1"),
    ],
    ids=["empty", "comment", "x25519", "tagpq", "ssh", "word"],
)
def test_a_wrong_recipient_is_named_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason):
        Recipients.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(PRIVATE, "is a private key, not a recipient"), ('{"password": "x"}', "is not a recipient")],
    ids=["private key", "another file"],
)
def test_a_secret_as_recipient_is_not_repeated(text: str, reason: str) -> None:
    with pytest.raises(InvalidKey, match=f"line 1: {reason}") as caught:
        Recipients.parse(text)
    assert text not in str(caught.value)


def test_a_file_without_end_is_not_read_whole() -> None:
    with pytest.raises(InvalidKey, match="/dev/zero: has more than 1048576 bytes"):
        Identities.read([Path("/dev/zero")])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no identity in it"),
        (PUBLIC, "line 1: is not a valid identity"),
        (PRIVATE[:-1], "line 1: is not a valid identity"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret", "is not a valid SSH key"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\nsecret", "is not a valid SSH key"),
        (ssh_key(b"passphrase")[1], "is not a valid SSH key"),
    ],
    ids=["empty", "recipient", "cut off", "ssh", "encrypted identity", "ssh with a passphrase"],
)
def test_a_wrong_identity_is_refused_and_not_repeated(text: str, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason) as caught:
        Identities.parse(text)
    assert not [part for part in text.split() if len(part) > 20 and part in str(caught.value)]


def test_no_identities_open_nothing() -> None:
    with pytest.raises(WrongKey):
        Identities.parse(str(OTHER)).decrypt(Recipients.parse(PUBLIC).encrypt(b"x"), "bundle")
