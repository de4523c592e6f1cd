"""Sealed secrets open with one key only; no repr shows a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryonix.signup.errors import ScopeTooSmall, WrongCredentialsKey
from kryonix.signup.keys import SCOPES, Caller
from kryonix.signup.sealing import derive_key, open_sealed, public_of, random_key, seal

TEXTS = st.text(min_size=1, max_size=40)


@given(content=st.dictionaries(TEXTS, TEXTS), context=TEXTS)
def test_a_seal_opens_with_its_private_key(content: dict[str, str], context: str) -> None:
    private = random_key()
    assert open_sealed(private, context, seal(public_of(private), context, content)) == content


def test_another_key_context_or_changed_byte_opens_nothing() -> None:
    private = random_key()
    sealed = seal(public_of(private), "operation", {"password": "xyzzy"})
    assert b"xyzzy" not in sealed
    for key, context, content in (
        (random_key(), "operation", sealed),
        (private, "other", sealed),
        (private, "operation", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (private, "operation", bytes([sealed[0] ^ 1]) + sealed[1:]),
    ):
        with pytest.raises(WrongCredentialsKey):
            open_sealed(key, context, content)


@pytest.mark.parametrize("sealed", [b"", b"x" * 10, b"hpke\x01", b"hpke\x01short", bytes(80)])
def test_malformed_seals_open_with_no_key(sealed: bytes) -> None:
    with pytest.raises(WrongCredentialsKey):
        open_sealed(random_key(), "operation", sealed)


def test_a_seal_from_before_hpke_opens() -> None:
    private = "YW4gb2xkZXIgcmVsZWFzZSdzIHByaXZhdGUga2V5ISE"
    sealed = bytes.fromhex(
        "3d780c393439b5c96d378c8a7d7bbdc9d8c78d2ad27b76ed8ed4acf182d3974f58a3f08d83fb584cf9854087d5a5f141e185424e7bded0"
        "9d11009e64b69bf19c9e71bb9215b6672e0621615ab3050cdb"
    )
    assert open_sealed(private, "operation", sealed) == {"password": "kept"}
    with pytest.raises(WrongCredentialsKey):
        open_sealed(random_key(), "operation", sealed)


@pytest.mark.parametrize("text", ["", "x", "é" * 43, "A" * 44, "=" * 43, "a\nb", "A" * 100])
def test_a_malformed_private_key_is_refused(text: str) -> None:
    with pytest.raises(WrongCredentialsKey):
        public_of(text)


@given(secret=TEXTS, key=TEXTS, fingerprint=st.binary(min_size=32, max_size=32))
def test_a_derived_key_depends_on_the_whole_request_only(secret: str, key: str, fingerprint: bytes) -> None:
    derived = derive_key(secret, key, fingerprint)
    assert derived == derive_key(secret, key, fingerprint)
    assert derived != derive_key(secret + "x", key, fingerprint)
    assert derived != derive_key(secret, key + "x", fingerprint)
    assert derived != derive_key(secret, key, fingerprint[::-1] + b"x")
    assert len(public_of(derived)) == 32


def test_each_scope_includes_the_lower_ones() -> None:
    for held, scope in enumerate(SCOPES):
        caller = Caller(key_id="a", scope=scope, secret="s")
        for needed, wanted in enumerate(SCOPES):
            if held >= needed:
                caller.must(wanted)
            else:
                with pytest.raises(ScopeTooSmall, match=wanted):
                    caller.must(wanted)


def test_a_caller_does_not_show_its_secret() -> None:
    assert "xyzzy" not in repr(Caller(key_id="a", scope="read", secret="xyzzy"))
