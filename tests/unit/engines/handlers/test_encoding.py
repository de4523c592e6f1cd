"""How inputs are written for the services: paths, definitions, tar files, container descriptions, verifiers."""

from __future__ import annotations

import base64
import hashlib
import io
import string
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kryonix.engines.local.errors import InvalidInputs
from kryonix.engines.local.handlers import provider
from kryonix.engines.local.handlers.container_spec import (
    CONTAINER,
    archive,
    container_spec,
    endpoint_config,
    nanoseconds,
)
from kryonix.engines.local.handlers.fields import checked
from kryonix.engines.local.handlers.management import api_path, management
from kryonix.engines.local.handlers.postgres_roles import verifies
from kryonix.engines.local.handlers.rabbitmq import password_matches
from kryonix.engines.local.handlers.rabbitmq_topology import arguments, definition_for_broker
from kryonix.engines.local.handlers.random import password


def container(**inputs: Any) -> dict[str, Any]:
    values, problems = checked(CONTAINER, {"name": "c", "image": "i", **inputs})
    assert problems == []
    return container_spec(values, {"owner": "me"})


def test_names_are_quoted_in_paths_slashes_included() -> None:
    assert api_path("queues", "/cliente_a", "q 1/%#?ã") == "/api/queues/%2Fcliente_a/q%201%2F%25%23%3F%C3%A3"


def test_a_policys_whole_numbers_are_numbers_and_nothing_else_is() -> None:
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


def test_arguments_come_typed_from_json_and_as_text_from_the_map() -> None:
    assert arguments({"argumentsJson": '{"x-max-length": 1}'}) == {"x-max-length": 1}
    assert arguments({"arguments": {"x-max-length": "1"}, "argumentsJson": ""}) == {"x-max-length": "1"}
    assert arguments({}) == {}


def test_a_users_password_is_compared_with_the_brokers_salted_hash() -> None:
    salt = b"\x01\x02\x03\x04"
    digest = base64.b64encode(salt + hashlib.sha256(salt + b"right").digest()).decode()
    user = {"hashing_algorithm": "rabbit_password_hashing_sha256", "password_hash": digest}
    assert password_matches(user, "right")
    assert not password_matches(user, "wrong")
    assert not password_matches({**user, "password_hash": ""}, "right")
    assert password_matches({**user, "hashing_algorithm": "something_else"}, "wrong")


def test_a_roles_password_is_compared_with_the_servers_verifier() -> None:
    # RFC 5803 form, made by PostgreSQL 17 for the password `secret`.
    key = hashlib.pbkdf2_hmac("sha256", b"secret", b"salt-of-16-bytes", 4096)
    stored = base64.b64encode(hashlib.sha256(_hmac(key, b"Client Key")).digest()).decode()
    server = base64.b64encode(_hmac(key, b"Server Key")).decode()
    verifier = f"SCRAM-SHA-256$4096:{base64.b64encode(b'salt-of-16-bytes').decode()}${stored}:{server}"
    assert verifies(verifier, "secret")
    assert verifies(verifier, verifier)
    assert not verifies(verifier, "other")
    assert not verifies("", "secret")


def _hmac(key: bytes, text: bytes) -> bytes:
    import hmac

    return hmac.digest(key, text, "sha256")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0s", 0), ("1s", 10**9), ("1m30s", 90 * 10**9), ("500ms", 5 * 10**8), ("1.5h", 5400 * 10**9)],
)
def test_durations_are_read_as_go_writes_them(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


def test_a_container_that_says_little_is_described_with_the_plugins_defaults() -> None:
    assert container() == {
        "Image": "i",
        "Hostname": "",
        "Domainname": "",
        "Tty": False,
        "OpenStdin": False,
        "StopSignal": "",
        "User": "",
        "WorkingDir": "",
        "Labels": {"owner": "me"},
        "HostConfig": {
            "AutoRemove": False,
            "Init": False,
            "LogConfig": {"Type": "", "Config": {}},
            "NetworkMode": "bridge",
            "ReadonlyRootfs": False,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        },
    }


def test_ports_volumes_limits_and_health_are_in_the_engines_terms() -> None:
    spec = container(
        ports=[{"internal": 80, "external": 8080, "ip": "127.0.0.1"}, {"internal": 53, "protocol": "udp"}],
        volumes=[
            {"containerPath": "/data", "volumeName": "v", "readOnly": True},
            {"containerPath": "/host", "hostPath": "/srv", "volumeName": "ignored"},
            {"containerPath": "/anonymous"},
            {"fromContainer": "other"},
        ],
        ulimits=[{"name": "nofile", "soft": 1, "hard": 2}],
        memory=64,
        memorySwap=-1,
        cpus="1.5",
        healthcheck={"tests": ["CMD", "true"], "interval": "5s", "retries": 3},
    )
    host = spec["HostConfig"]
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "0"}],
    }
    assert spec["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert host["Binds"] == ["v:/data:ro", "/srv:/host:rw"]
    assert (list(spec["Volumes"]), host["VolumesFrom"]) == (["/data", "/host", "/anonymous"], ["other"])
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 * 2**20, -1, 1_500_000_000)
    assert spec["Healthcheck"] == {
        "Test": ["CMD", "true"],
        "Interval": 5 * 10**9,
        "Timeout": 0,
        "StartPeriod": 0,
        "Retries": 3,
    }


@pytest.mark.parametrize("volume", [{}, {"containerPath": "/a", "fromContainer": "b"}])
def test_a_volume_needs_exactly_one_kind_of_source(volume: dict[str, str]) -> None:
    with pytest.raises(InvalidInputs, match="either `containerPath` or `fromContainer`"):
        container(volumes=[volume])


def test_a_network_is_joined_with_what_was_given_and_nothing_else() -> None:
    assert endpoint_config({"name": "n"}) == {}
    given = {"aliases": ["a"], "ipv4Address": "10.0.0.2", "driverOpts": ["k=v=w"]}
    assert endpoint_config({"name": "n", **given}) == {
        "Aliases": ["a"],
        "IPAMConfig": {"IPv4Address": "10.0.0.2"},
        "DriverOpts": {"k": "v=w"},
    }


def test_uploads_are_one_tar_with_modes(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"from a file")
    uploads = [
        {"file": "/etc/a", "content": "ação", "executable": False},
        {"file": "/etc/b", "contentBase64": base64.b64encode(b"\x00").decode(), "executable": True},
        {"file": "/etc/c", "source": str(tmp_path / "source"), "permissions": "0600", "executable": True},
    ]
    with tarfile.open(fileobj=io.BytesIO(archive(uploads))) as tar:
        found = {member.name: (tar.extractfile(member).read(), member.mode) for member in tar}  # type: ignore[union-attr]
    assert found == {
        "etc/a": ("ação".encode(), 0o644),
        "etc/b": (b"\x00", 0o744),
        "etc/c": (b"from a file", 0o600),
    }


@pytest.mark.parametrize("upload", [{}, {"content": "a", "contentBase64": "YQ=="}])
def test_an_upload_has_exactly_one_content(upload: dict[str, str]) -> None:
    with pytest.raises(InvalidInputs, match="exactly one of"):
        archive([{"file": "/f", "executable": False, **upload}])


def test_a_password_has_its_length_classes_and_minimums() -> None:
    inputs = provider("random", {}).handler("random:index/randomPassword:RandomPassword").check
    for _ in range(50):
        made = password(
            inputs(None, {"length": 12, "upper": False, "minNumeric": 3, "overrideSpecial": "_", "minSpecial": 1})
        )
        assert len(made) == 12
        assert set(made) <= set(string.ascii_lowercase + string.digits + "_")
        assert sum(letter.isdigit() for letter in made) >= 3
        assert "_" in made


def test_random_values_are_secret_and_in_no_id() -> None:
    opened = provider("random", {})
    for noun, inputs, secret in (
        ("randomPassword:RandomPassword", {"length": 20}, "result"),
        ("randomBytes:RandomBytes", {"length": 9}, "hex"),
    ):
        at = opened.handler(f"random:index/{noun}")
        id, outputs = at.create(at.check(None, inputs))
        assert (id, secret in at.secret_outputs) == ("none", True)
        assert outputs[secret]


def test_a_random_id_has_all_its_forms() -> None:
    at = provider("random", {}).handler("random:index/randomId:RandomId")
    id, outputs = at.create(at.check(None, {"byteLength": 4, "prefix": "p-"}))
    value = base64.urlsafe_b64decode(id + "==")
    assert (outputs["hex"], outputs["dec"]) == (f"p-{value.hex()}", f"p-{int.from_bytes(value, 'big')}")
    assert outputs["b64Url"] == f"p-{id}"


def test_no_repr_shows_a_password() -> None:
    config = {"endpoint": "http://h:1", "username": "u", "password": "s3cret", "host": "h"}
    assert "s3cret" not in repr(management(config))
    for package in ("rabbitmq", "postgresql"):
        opened = provider(
            package, {key: value for key, value in config.items() if package == "rabbitmq" or key != "endpoint"}
        )
        assert "s3cret" not in repr(opened)
