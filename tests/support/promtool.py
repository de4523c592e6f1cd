"""promtool and amtool of the images that the platform runs, in a container with the files of a folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from contextlib import closing

import docker
import yaml

from tests.support.project import ROOT

_FILES = ROOT / "components/monitoring_files"


def image(role: str) -> str:
    """Return the reference in Pulumi.yaml: that of `prometheusImage` for `prometheus`."""
    config = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))["config"]
    return str(config[f"{role}Image"]["default"])


def prometheus_files() -> dict[str, str]:
    """Return what is in /etc/prometheus of the platform's container, with passwords and targets of no use."""
    rules = {f"rules/{file.name}": file.read_text(encoding="utf-8") for file in (_FILES / "rules").glob("*.yaml")}
    given = {"metrics_password": "x", "monitoring_password": "x", "workers.json": "[]", "signup.json": "[]"}
    return {"prometheus.yml": (_FILES / "prometheus.yml").read_text(encoding="utf-8"), **rules, **given}


def archived(files: Mapping[str, str], folder: str) -> bytes:
    """Return files in a folder as a tar to unpack at the root of a container."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{folder.lstrip('/')}/{name}")
            member.size, member.mode = len(content := text.encode()), 0o644
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def run(reference: str, script: str, files: Mapping[str, str], folder: str) -> tuple[int, str]:
    """Run a shell script in a container of the image, with files in a folder. Return its exit status and output."""
    with closing(docker.from_env()) as client:
        container = client.containers.create(reference, ["-c", script], entrypoint="/bin/sh", network_mode="none")
        try:
            container.put_archive("/", archived(files, folder))
            container.start()
            status = int(container.wait(timeout=300)["StatusCode"])
            return status, container.logs().decode()
        finally:
            container.remove(force=True, v=True)
