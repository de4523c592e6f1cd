"""scripts/images uses pinned images only, has those of a stack's services, and reports images of unknown origin."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import yaml

from tests.support.project import ROOT
from tests.support.registry import Registry, registry


@pytest.fixture
def images() -> Iterator[Registry]:
    with registry() as served:
        yield served


class Folder:
    """A folder with the script and the two references."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(ROOT / "scripts", path / "scripts")

    def defaults(self, broker: str, database: str) -> None:
        config = {"brokerImage": {"type": "string", "default": broker}, "postgresImage": {"default": database}}
        (self.path / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "kryonix", "config": config}, width=1000))

    def stack(self, name: str, **config: str | bool) -> None:
        keys = {f"kryonix:{key}": value for key, value in config.items()}
        (self.path / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump({"config": keys}, width=1000))

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["scripts/images", *arguments],
            cwd=self.path,
            env={**os.environ, "KRYONIX_PULL_SECONDS": "250", **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_images_are_pulled_by_digest_and_pins_are_printed(folder: Folder, images: Registry) -> None:
    broker, database = f"{images.repository}/broker:4.3", f"{images.repository}/database:17"
    by_digest = images.push("4.3", "broker")
    moved = images.push("17", "database")
    folder.defaults(f"{broker}@{by_digest}", database)
    images.push("4.3", "what the tag names today")

    pulled = folder.run()
    assert pulled.returncode == 0, pulled.stderr
    assert f"{broker}@{by_digest} is here" in folder.run().stderr
    assert docker.from_env().images.get(f"{images.repository}/broker@{by_digest}")

    folder.stack("prod", brokerImage=broker)
    printed = folder.run("--digests")
    assert printed.returncode == 0, printed.stderr
    assert yaml.safe_load(printed.stdout) == {
        "kryonix:brokerImage": f"{broker}@{by_digest}",
        "kryonix:postgresImage": f"{database}@{moved}",
    }
    absent = folder.run("--stack", "prod", "--digests")
    assert absent.returncode == 1, "the stack's file names another image, which is not here"
    assert "has no digest" in absent.stderr


def test_monitoring_has_its_images_where_it_is_on(folder: Folder, images: Registry) -> None:
    for tag, what in (("4.3", "broker"), ("17", "database"), ("v3.5", "prometheus"), ("v0.33", "alertmanager")):
        images.push(tag, what)
    folder.defaults(f"{images.repository}/broker:4.3", f"{images.repository}/database:17")
    monitoring: dict[str, str | bool] = {
        "monitoring": True,
        "prometheusImage": f"{images.repository}/prometheus:v3.5",
        "alertmanagerImage": f"{images.repository}/alertmanager:v0.33",
        "grafanaImage": "localhost:1/grafana:12",
    }
    folder.stack("plain", **monitoring | {"monitoring": False})
    folder.stack("watched", **monitoring)
    plain = folder.run("--stack", "plain")
    assert plain.returncode == 0, plain.stderr
    assert "prometheus" not in plain.stderr

    without_grafana = folder.run("--stack", "watched")
    assert without_grafana.returncode == 3
    assert "Debian has nothing to assemble localhost:1/grafana:12 from" in without_grafana.stderr
    folder.stack("watched", **monitoring | {"grafanaImage": ""})
    assert folder.run("--stack", "watched").returncode == 0
    printed = yaml.safe_load(folder.run("--stack", "watched", "--digests").stdout)
    assert list(printed) == [f"kryonix:{role}Image" for role in ("broker", "postgres", "prometheus", "alertmanager")]


def test_a_balancer_has_its_image_where_it_is_on(folder: Folder, images: Registry) -> None:
    for tag, what in (("4.3", "broker"), ("17", "database"), ("3.2", "balancer")):
        images.push(tag, what)
    folder.defaults(f"{images.repository}/broker:4.3", f"{images.repository}/database:17")
    reference = f"{images.repository}/balancer:3.2"
    folder.stack("plain", balancer=False, balancerImage=reference)
    folder.stack("balanced", balancer=True, balancerImage=reference)
    assert "balancer" not in folder.run("--stack", "plain").stderr
    assert folder.run("--stack", "balanced").returncode == 0
    assert "kryonix:balancerImage" in yaml.safe_load(folder.run("--stack", "balanced", "--digests").stdout)


def test_an_image_with_another_digest_is_refused_without_a_substitute(folder: Folder, images: Registry) -> None:
    pinned = images.push("4.3", "broker")
    images.push("4.3", "somebody else's")
    images.serve_instead(pinned, "4.3")
    reference = f"{images.repository}/broker:4.3@{pinned}"
    folder.defaults(reference, reference)
    refused = folder.run()
    assert refused.returncode == 3, refused.stderr
    assert "verification" in refused.stderr
    assert "pinned by its digest" in refused.stderr
    with pytest.raises(docker.errors.ImageNotFound):
        docker.from_env().images.get(f"{images.repository}/broker@{pinned}")


def test_a_locally_loaded_image_is_used_with_a_warning(folder: Folder, images: Registry) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(images.repository.replace("/", "-")))
    daemon = docker.from_env()
    daemon.api.import_image_from_data(buffer.getvalue(), repository=f"{images.repository}/broker", tag="4.3")
    images.push("17", "database")
    folder.defaults(f"{images.repository}/broker:4.3", f"{images.repository}/database:17")
    said = folder.run()
    assert said.returncode == 0, said.stderr
    assert f"warning: {images.repository}/broker:4.3 was neither pulled nor assembled" in said.stderr
    assert "database:17 was neither" not in folder.run().stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--digest",), {}, "usage: scripts/images"),
        ((), {"KRYONIX_DEBIAN_MAX_AGE_DAYS": "for ever"}, "'for ever' is not a whole number"),
    ],
)
def test_invalid_options_are_refused(
    folder: Folder, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    refused = folder.run(*arguments, **environment)
    assert refused.returncode == 2
    assert said in refused.stderr


def test_an_image_is_assembled_from_recent_package_lists_signed_by_debian(folder: Folder, images: Registry) -> None:
    """Return the arguments of mmdebstrap. That apt then refuses an expired list was seen with a frozen mirror."""
    stub, asked = folder.path / "bin" / "mmdebstrap", folder.path / "asked"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{asked}\nexit 1\n')
    stub.chmod(0o755)
    keyring = folder.path / "keyring.gpg"
    keyring.touch()
    images.push("17", "database")
    folder.defaults("localhost:1/none:4.3", f"{images.repository}/database:17")
    path = f"{stub.parent}:{os.environ['PATH']}"
    failed = folder.run(PATH=path, KRYONIX_DEBIAN_KEYRING=str(keyring), KRYONIX_DEBIAN_MAX_AGE_DAYS="7")
    if os.geteuid() != 0:
        assert failed.returncode == 3
        assert "only root on Debian" in failed.stderr
        return
    assert failed.returncode == 1, failed.stderr
    options = asked.read_text().splitlines()
    assert '--aptopt=Acquire::Min-ValidTime "604800"' in options
    assert f"--keyring={keyring}" in options
    assert "Check-Valid-Until" not in asked.read_text()
    assert "older than 7 days (KRYONIX_DEBIAN_MAX_AGE_DAYS)" in failed.stderr
