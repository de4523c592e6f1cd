from __future__ import annotations

import base64
import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from kryonix.topology.credentials import is_hash_of, is_verifier_of, rabbitmq_hash, scram_verifier

texts = st.text(min_size=1)


@given(texts, texts)
def test_a_rabbitmq_hash_is_salt_plus_sha256_of_salt_and_password(user: str, password: str) -> None:
    raw = base64.b64decode(rabbitmq_hash(user, password))
    assert len(raw) == 36
    assert raw[4:] == hashlib.sha256(raw[:4] + password.encode()).digest()


@given(texts, texts)
def test_hashes_are_stable_and_hide_the_password(user: str, password: str) -> None:
    for compute in (rabbitmq_hash, scram_verifier):
        hashed = compute(user, password)
        assert hashed == compute(user, password)
        # The name of the method is no secret: a password may be part of it.
        assert len(password) < 6 or password not in hashed.removeprefix("SCRAM-SHA-256$4096:")


def test_two_users_with_one_password_have_different_hashes() -> None:
    assert rabbitmq_hash("a", "same") != rabbitmq_hash("b", "same")
    assert scram_verifier("a", "same") != scram_verifier("b", "same")


def test_a_password_is_compared_with_the_servers_verifier() -> None:
    # RFC 5803 form, made by PostgreSQL 17 for the password `secret`.
    key = hashlib.pbkdf2_hmac("sha256", b"secret", b"salt-of-16-bytes", 4096)
    client_key, server_key = (hmac.digest(key, name, "sha256") for name in (b"Client Key", b"Server Key"))
    stored = base64.b64encode(hashlib.sha256(client_key).digest()).decode()
    verifier = f"SCRAM-SHA-256$4096:{base64.b64encode(b'salt-of-16-bytes').decode()}${stored}:"
    verifier += base64.b64encode(server_key).decode()
    assert is_verifier_of(verifier, "secret")
    assert is_verifier_of(verifier, verifier)
    assert not is_verifier_of(verifier, "other")
    assert not is_verifier_of("", "secret")
    assert is_verifier_of(scram_verifier("role", "secret"), "secret")


def test_a_user_without_a_password_has_an_empty_hash_and_no_other() -> None:
    assert rabbitmq_hash("kryonix_acme", "") == ""
    assert is_hash_of("", "")
    assert not is_hash_of("", "a password")
    assert not is_hash_of(rabbitmq_hash("kryonix_acme", "a password"), "")
