"""Secrets in a resource's inputs, found by key or by format."""

from __future__ import annotations

from typing import Any

import pytest

from kryonix.policy.resources import SECRET, UNKNOWN, plain_secrets
from kryonix.review.guardrails import Guardrail

VALUE = "correct-horse-battery"


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"password": VALUE}, "password"),
        ({"password": f"{VALUE}="}, "password"),
        ({"adminPassword": VALUE}, "adminPassword"),
        ({"dsn": VALUE}, "dsn"),
        ({"settings": {"auth": {"apiKey": VALUE}}}, "settings.auth.apiKey"),
        ({"envs": ["A=b", f"POSTGRES_PASSWORD={VALUE}"]}, "envs.1"),
        ({"url": f"amqp://user:{VALUE}@host"}, "url"),
        ({"content": "-----BEGIN PRIVATE KEY-----"}, "content"),
    ],
)
def test_a_plain_secret_is_located_and_not_shown(inputs: dict[str, Any], path: str) -> None:
    (found,) = plain_secrets("rabbitmq:index/user:User", "acme/user", inputs)
    assert (found.guardrail, found.tenant) == (Guardrail.secret_in_plain_text, "")
    assert found.object == f"User acme/user {path}"
    assert VALUE not in str(found)


@pytest.mark.parametrize(
    "inputs",
    [
        {"password": SECRET},
        {"password": UNKNOWN},
        {"password": ""},
        {"password": None},
        {"passwordHash": SECRET, "length": 32, "special": False},
        {"name": "cliente_acme", "tags": ["management"], "vhost": "/cliente_acme"},
        {"envs": ["POSTGRES_USER=kryonix_admin", UNKNOWN, "PGDATA=/var/lib/postgresql/data"]},
        {"url": "amqp://host:5672/x"},
    ],
)
def test_marked_unknown_and_harmless_values_are_ignored(inputs: dict[str, Any]) -> None:
    assert list(plain_secrets("x:index/y:Y", "y", inputs)) == []
