"""Inputs encoded for services: paths, definitions, tar files, containers, verifiers."""

from __future__ import annotations

import base64
import hashlib
import io
import string
import tarfile
from typing import Any

import pytest

from kryonix.engines.local.handlers import provider
from kryonix.engines.local.handlers.container_spec import CONTAINER, archive, container_spec, nanoseconds
from kryonix.engines.local.handlers.fields import checked
from kryonix.engines.local.handlers.management import Management
from kryonix.engines.local.handlers.rabbitmq import definition_for_broker, password_matches
from kryonix.rabbitmq.client import api_path


def container(**inputs: Any) -> dict[str, Any]:
    values, problems = checked(CONTAINER, {"name": "c", "image": "i", **inputs})
    assert problems == []
    return container_spec(values, {"owner": "me"})


def test_names_are_quoted_in_paths_slashes_included() -> None:
    assert api_path("queues", "/cliente_a", "q 1/%#?ã") == "/api/queues/%2Fcliente_a/q%201%2F%25%23%3F%C3%A3"


def test_only_whole_numbers_of_a_policy_become_numbers() -> None:
    text = {
        "a": "10",
        "b": "-1",
        "c": "1.5",
        "d": "reject-publish",
        "e": "9223372036854775808",
        "f": "true",
        "g": "1_0",
    }
    assert definition_for_broker(text) == {**text, "a": 10, "b": -1}


def test_a_users_password_is_compared_with_the_brokers_salted_hash() -> None:
    salt = b"\x01\x02\x03\x04"
    digest = base64.b64encode(salt + hashlib.sha256(salt + b"right").digest()).decode()
    user = {"hashing_algorithm": "rabbit_password_hashing_sha256", "password_hash": digest}
    assert password_matches(user, "right")
    assert not password_matches(user, "wrong")
    assert not password_matches({**user, "password_hash": ""}, "right")
    assert password_matches({**user, "hashing_algorithm": "something_else"}, "wrong")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0s", 0), ("1s", 10**9), ("1m30s", 90 * 10**9), ("500ms", 5 * 10**8), ("1.5h", 5400 * 10**9)],
)
def test_durations_are_read_as_go_writes_them(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


def test_a_container_with_few_inputs_keeps_dockers_defaults() -> None:
    assert container() == {
        "Image": "i",
        "Labels": {"owner": "me"},
        "HostConfig": {"NetworkMode": "bridge", "RestartPolicy": {"Name": "no"}},
    }


def test_ports_volumes_limits_and_health_are_translated_for_docker() -> None:
    spec = container(
        ports=[
            {"internal": 80, "external": 8080, "ip": "127.0.0.1"},
            {"internal": 80, "external": 8081, "ip": "::1"},
        ],
        volumes=[
            {"containerPath": "/data", "volumeName": "v"},
            {"containerPath": "/more", "volumeName": "w", "readOnly": True},
            {"containerPath": "/out", "hostPath": "/mnt"},
        ],
        memory=64,
        memorySwap=128,
        healthcheck={"tests": ["CMD", "true"], "interval": "5s", "retries": 3},
    )
    host = spec["HostConfig"]
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": "8081"}]
    }
    assert spec["ExposedPorts"] == {"80/tcp": {}}
    assert host["Binds"] == ["v:/data:rw", "w:/more:ro", "/mnt:/out:rw"]
    assert (host["Memory"], host["MemorySwap"]) == (64 * 2**20, 128 * 2**20)
    assert spec["Healthcheck"] == {
        "Test": ["CMD", "true"],
        "Interval": 5 * 10**9,
        "Timeout": 0,
        "StartPeriod": 0,
        "Retries": 3,
    }


def test_uploads_are_one_tar_with_modes() -> None:
    uploads = [
        {"file": "/etc/a", "content": "ação", "executable": False},
        {"file": "/etc/b", "content": "run", "executable": True},
    ]
    with tarfile.open(fileobj=io.BytesIO(archive(uploads))) as tar:
        found = {member.name: (tar.extractfile(member).read(), member.mode) for member in tar}  # type: ignore[union-attr]
    assert found == {
        "etc/a": ("ação".encode(), 0o644),
        "etc/b": (b"run", 0o744),
    }


@pytest.mark.parametrize("special", [True, False])
def test_a_password_has_the_requested_length_and_characters(special: bool) -> None:
    at = provider("random", {}).handler("random:index/randomPassword:RandomPassword")
    made = [at.create(at.check(None, {"length": 30, "special": special}))[1]["result"] for _ in range(20)]
    assert {len(password) for password in made} == {30}
    assert set("".join(made)) <= set(string.ascii_letters + string.digits) or special
    assert (set("".join(made)) & set(string.punctuation) != set()) is special


def test_a_random_password_is_secret_and_not_in_its_id() -> None:
    at = provider("random", {}).handler("random:index/randomPassword:RandomPassword")
    id, outputs = at.create(at.check(None, {"length": 20}))
    assert (id, "result" in at.secret_outputs, len(outputs["result"])) == ("none", True, 20)


def test_no_repr_shows_a_password() -> None:
    login = {"username": "u", "password": "s3cret"}
    assert "s3cret" not in repr(Management({"endpoint": "http://h:1", **login}))
    assert "s3cret" not in repr(provider("rabbitmq", {"endpoint": "http://h:1", **login}))
    assert "s3cret" not in repr(provider("postgresql", {"host": "h", **login}))
