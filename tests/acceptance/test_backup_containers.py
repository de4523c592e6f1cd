"""A platform with TLS, signup and `kryonix:backup: true`: bundles are made in a folder, then in a store, and verified.

The tests run in order on one platform: backups are turned on, killed, sent to a store, and turned off.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from moto.server import ThreadedMotoServer

from components.product import IMAGE
from kryonix.backup.bundle import unpack
from kryonix.backup.encryption import Identities, new_identity
from kryonix.registry.backups import NewestBackups, fetch_newest_backups
from kryonix.registry.connection import connect
from tests.acceptance.conftest import changed
from tests.support.containers import output_of, process_status
from tests.support.live_broker import LiveBroker
from tests.support.project import ROOT, Project, free_port, tenant
from tests.support.waiting import eventually

BUCKET = "bundles"
_WITHIN_S = 180


@dataclass
class Scheduled:
    """The platform, the folder of its bundles, and the operator's key."""

    project: Project
    folder: Path
    key: Path
    recipient: str
    docker: Any

    def container(self, role: str = "backup") -> Any:
        return self.docker.containers.get(f"kryonix-{self.project.stack}-{role}")

    def file(self, path: str) -> tuple[tarfile.TarInfo, str]:
        """Return a file of the container, as Docker copies it: the output of `cat` gets lost now and then."""
        chunks, _ = self.container().get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            (member,) = tar.getmembers()
            content = tar.extractfile(member)
            assert content is not None, path
            return member, content.read().decode()

    def known(self) -> Mapping[str, Any]:
        """What the container knows of the platform."""
        (outputs,) = json.loads(self.file("/etc/kryonix/platform.json")[1]).values()
        return dict(outputs)

    def newest(self) -> dict[str, NewestBackups]:
        with connect(self.project.outputs()["registry_dsn"]) as connection:
            return {each.subject: each for each in fetch_newest_backups(connection, stack=self.project.stack)}

    def proven(self) -> bool:
        newest = self.newest()
        return newest.keys() == {self.project.stack, "acme", "bought"} and all(
            each.verified for each in newest.values()
        )

    def seen_at(self) -> datetime | None:
        return self.newest()["acme"].seen_at

    def bundles(self) -> dict[str, bytes]:
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in self.folder.rglob("*.age")}

    def log(self) -> str:
        return str(self.container().logs().decode())


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduled]:
    subprocess.run([ROOT / "scripts/product-image", IMAGE], check=True)
    folder = tmp_path_factory.mktemp("scheduled")
    to = folder / "bundles"
    to.mkdir()
    to.chmod(0o777)  # the container's user is not the tests'
    recipient = new_identity(folder / "operator.key")
    listed = tenant("acme", "crm", plan="basic")
    project = Project.platform(folder / "project", listed, tls="true", signup=True, signupPort=free_port())
    with project.running(), closing(docker.from_env()) as client:
        made = Scheduled(project, to, folder / "operator.key", recipient, client)
        create = ["kryonix", "tenant", "create", "bought", "--modules", "crm", "--plan", "basic"]
        status, printed = made.container("worker").exec_run([*create, "--stack", project.stack])
        assert status == 0, printed.decode()
        yield made


@pytest.fixture(autouse=True)
def _there(scheduled: Scheduled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's DSN names the file with the CA from the project's folder on."""
    monkeypatch.chdir(scheduled.project.folder)


@pytest.fixture(scope="module")
def s3(scheduled: Scheduled) -> Iterator[str]:
    """Yield the address of an S3 server with an empty bucket, as the container reaches it."""
    network = scheduled.docker.networks.get(f"kryonix-{scheduled.project.stack}-rabbitmq-network")
    gateway = network.attrs["IPAM"]["Config"][0]["Gateway"]
    server = ThreadedMotoServer(ip_address=gateway, port=0, verbose=False)
    server.start()
    address = f"http://{gateway}:{server.get_host_and_port()[1]}"
    httpx.put(f"{address}/{BUCKET}", trust_env=False).raise_for_status()
    yield address
    server.stop()


def ids(project: Project) -> dict[str, str]:
    return {found.name.removeprefix(f"kryonix-{project.stack}-"): found.id for found in project.containers()}


def test_a_running_platform_gets_backups_and_is_left_alone(scheduled: Scheduled) -> None:
    project = scheduled.project
    before = ids(project)
    to = str(scheduled.folder)
    project.configure(backup=True, backupTo=to, backupRecipients=[scheduled.recipient], backupJitterMinutes=0)
    project.must("up")
    after = ids(project)
    assert {role: after[role] for role in before} == before, "broker and database go on"
    assert set(after) - set(before) == {"backup"}
    assert changed(project.must("preview")) == []
    outputs = project.outputs()
    assert (outputs["backup_to"], outputs["backup_recipients"]) == (to, [scheduled.recipient])


def test_bundles_appear_for_the_operators_key_and_are_verified(scheduled: Scheduled) -> None:
    eventually("all bundles are verified", scheduled.proven, _WITHIN_S)
    operator = Identities.read([scheduled.key])
    found = {name: unpack(data, operator, name) for name, data in scheduled.bundles().items()}
    subjects = {(bundle.manifest.kind, bundle.manifest.subject): bundle for bundle in found.values()}
    stack = scheduled.project.stack
    assert len(found) == 3
    assert subjects.keys() == {("platform", stack), ("tenant", "acme"), ("tenant", "bought")}
    assert "state.json" in subjects["tenant", "bought"].members, (
        "the signup service's tenants have a state of their own"
    )


def test_the_exporter_serves_the_age_of_what_is_proven(scheduled: Scheduled) -> None:
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9420/metrics', timeout=30).read().decode())"

    def served() -> set[str]:
        metrics = output_of(scheduled.container("exporter"), "python", "-c", ask)
        return set(re.findall(r'kryonix_backup_verified_timestamp_seconds{cliente_id="(\w*)"', metrics))

    eventually("all have a verified backup", lambda: served() == {"", "acme", "bought"})


def test_it_has_accounts_of_its_own_and_shows_no_secret(scheduled: Scheduled) -> None:
    outputs, known, container = scheduled.project.outputs(), scheduled.known(), scheduled.container()
    assert known["admin_username"] == "kryonix-backup"
    assert known["admin_password"] != outputs["admin_password"]
    assert known["registry_dsn"].startswith("postgresql://kryonix_backup:")
    with LiveBroker(outputs) as broker:
        entered = {entry["vhost"] for entry in broker.get("permissions") if entry["user"] == "kryonix-backup"}
    assert all(vhost.startswith("/kryonix-verify-") for vhost in entered), "none but a verification's scratch"
    identity, text = scheduled.file("/var/lib/kryonix-backup/identity")
    assert (identity.mode & 0o777, identity.uid) == (0o600, 10001)
    key = text.splitlines()[-1]
    assert key.startswith("AGE-SECRET-KEY-1")
    fields = process_status(container)
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    secrets = [key, known["admin_password"], re.sub(r".*:([^@]+)@.*", r"\1", known["registry_dsn"])]
    shown = json.dumps(container.attrs) + scheduled.log()
    assert not [secret for secret in secrets if len(secret) < 20 or secret in shown]


def test_a_killed_schedule_comes_back_and_makes_no_second_bundle(scheduled: Scheduled) -> None:
    found, seen, container = scheduled.bundles(), scheduled.seen_at(), scheduled.container()
    command = ["-c", f"import os; os.kill({container.attrs['State']['Pid']}, 9)"]
    scheduled.docker.containers.run(IMAGE, command, entrypoint="python", user="0", pid_mode="host", remove=True)
    eventually("it has looked again", lambda: scheduled.seen_at() != seen, _WITHIN_S)
    assert scheduled.bundles() == found
    assert scheduled.proven()


def test_bundles_go_to_a_store_whose_login_nobody_sees(scheduled: Scheduled, s3: str) -> None:
    login = {"access_key_id": "an-operators-key", "secret_access_key": "a-secret-of-the-store"}
    settings = json.dumps({"endpoint_url": s3, "region": "us-east-1", "allow_http": True, **login})
    project, before = scheduled.project, scheduled.bundles()
    project.configure(backupTo=f"s3://{BUCKET}/messaging", backupCredentials=project.secret(settings))
    project.must("up")

    def listed() -> int:
        answer = httpx.get(f"{s3}/{BUCKET}", params={"prefix": f"messaging/{project.stack}/"}, trust_env=False)
        return answer.text.count("<Key>")

    eventually("all bundles are in the store", lambda: listed() == 3, _WITHIN_S)
    assert scheduled.bundles() == before
    state = (project.folder / ".kryonix" / "stacks" / project.stack / "checkpoint.json").read_text()
    shown = json.dumps(scheduled.container().attrs) + scheduled.log() + state
    assert login["secret_access_key"] not in shown


def test_turned_off_its_accounts_go_and_its_bundles_stay(scheduled: Scheduled) -> None:
    project, before = scheduled.project, scheduled.bundles()
    project.configure(backup=None, backupTo=None, backupRecipients=None, backupCredentials=None)
    project.must("up")
    assert "backup" not in ids(project)
    outputs = project.outputs()
    assert "backup_to" not in outputs
    with LiveBroker(outputs) as broker:
        assert not broker.has("users", "kryonix-backup")
    with connect(outputs["registry_dsn"]) as connection:
        assert not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'kryonix_backup'").fetchall()
    assert {each.expected_since for each in scheduled.newest().values()} == {None}, "no alert fires for them"
    assert scheduled.bundles() == before != {}
    assert changed(project.must("preview")) == []
