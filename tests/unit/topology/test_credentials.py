from __future__ import annotations

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from kryonix.topology.credentials import rabbitmq_hash, scram_verifier

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
