"""Secrets in added lines: detected, not confused with placeholders, never shown."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryonix.review.plain_text import AddedLine, is_read, secrets_in

# Put together here, so that no tool takes this file for a leak.
KEY = "-----BEGIN " + "RSA PRIVATE KEY-----"
GITHUB, AWS, GITLAB = "ghp_" + "a1" * 18, "AKIA" + "ABCDEFGH12345678", "glpat-" + "x1" * 10
PULUMI, SLACK = "pul-" + "0a" * 20, "xoxb-" + "1234567890-abc"


def found(text: str, file: str = "Pulumi.prod.yaml") -> list[str]:
    return [finding.object for finding in secrets_in([AddedLine(file, 7, text)])]


@pytest.mark.parametrize(
    "text",
    [
        "  kryonix:brokerPassword: hunter2",
        "password: 'hunter 2 with spaces'",
        '"api_key": "abcdef0123"',
        "export RABBITMQ_DEFAULT_PASS=guest",
        "  access-key = abcdefgh,",
        "kryonix:tenant: {id: acme, password: hunter2}",
        "registry: {dsn: 'host=db'}",
        "# token: abcdef",
        "uri: amqp://kryonix_acme:hunter2@broker:5672/%2Fcliente_acme",
    ],
)
def test_a_literal_for_a_secrets_name_is_found_in_data(text: str) -> None:
    assert len(found(text)) == 1


def test_an_untracked_file_is_to_be_ignored_or_moved() -> None:
    (finding,) = secrets_in([AddedLine("acme.json", 7, '"password": "hunter2"', untracked=True)])
    assert "add it to .gitignore (*.credentials.json is), or move it out of the repository" in finding.message
    assert "exposed" not in finding.message


@pytest.mark.parametrize("text", [KEY, f"x = '{GITHUB}'", AWS, GITLAB, PULUMI, SLACK])
@pytest.mark.parametrize(
    "file", ["kryonix/a.py", "docs/a.md", "tests/unit/test_a.py", "a.yaml", ".env.prod", "Makefile"]
)
def test_certain_secrets_are_found_in_every_kind_of_file(text: str, file: str) -> None:
    assert found(text, file)


@pytest.mark.parametrize(
    "text",
    [
        "password: ${{ secrets.PASSWORD }}",
        "password: $PASSWORD",
        "password: {secure: v1:abcdef:ghij}",
        "kryonix:password:",
        "    secure: v1:abcdef:ghij",
        "password: null",
        "password: ''",
        "password: !vault abc",
        "passwords: 12",
        "password: <yours>",
        "password: ...",
        "password: xxxx",
        "id-token: write",
        "secrets: inherit",
        "persist-credentials: false",
        "# password: see what the operators wrote",
        "passphraseFile: /run/secrets/passphrase",
        "compass: north",
        "bypass: all",
        "uri: amqp://user:PASSWORD@broker",
        "uri: amqp://kryonix_acme:…@broker",
        "uri: amqp://{user}:{password}@broker",
        "url: https://example.com:8080/a@b",
        "description: the password of the user",
    ],
)
def test_placeholders_and_similar_words_are_not_secrets(text: str) -> None:
    assert found(text) == []


def test_an_address_with_a_password_is_found_in_code_but_not_in_tests() -> None:
    address = 'URI = "amqp://kryonix_acme:hidden@127.0.0.1:1"'
    assert found(address, "tests/unit/test_a.py") == []
    assert found(address, "kryonix/a.py") == ["kryonix/a.py an address"]


def test_a_name_in_code_is_not_a_secret() -> None:
    assert found("password = read_password()", "kryonix/a.py") == []


@pytest.mark.parametrize(("file", "read"), [("a.yaml", True), (".env", True), ("a.png", False), ("a.lock", False)])
def test_files_of_known_kinds_are_read(file: str, read: bool) -> None:
    assert is_read(file) is read


@given(secret=st.from_regex(r"[A-Za-z0-9+/_-]{12,60}", fullmatch=True), key=st.sampled_from(["password", "a:token"]))
def test_no_finding_ever_shows_the_secret(secret: str, key: str) -> None:
    for finding in secrets_in([AddedLine("a.yaml", 1, f"{key}: {secret}")]):
        assert secret not in repr(finding)
        assert "line 1" in finding.message


@given(text=st.text(max_size=300), file=st.sampled_from(["a.yaml", "a.py"]))
def test_any_line_can_be_searched(text: str, file: str) -> None:
    assert all(finding.object.startswith(file) for finding in secrets_in([AddedLine(file, 1, text)]))


def test_a_very_long_line_is_searched_quickly() -> None:
    start = time.process_time()
    for text in ("a" * 200_000, "password" * 20_000, "://a:" * 20_000, " :=" * 20_000, "a." * 20_000 + "token"):
        found(text)
    assert time.process_time() - start < 30  # s; a quadratic search takes many minutes
