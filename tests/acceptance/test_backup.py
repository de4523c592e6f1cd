"""`kryonix backup` for an operator: bundles of a live platform, what is said of them, and what comes back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kryonix.backup.bundle import unpack
from kryonix.backup.encryption import Identities
from kryonix.cli.app import app
from kryonix.errors import KryonixError
from tests.support.lifecycle_env import LifecycleEnv, connects
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, Result
from tests.support.waiting import eventually

ID, VHOST = "keeper", "/cliente_keeper"
LEADS = "cliente_keeper.crm.leads.create"


class Backups:
    """The command on the platform's stack, with a key and a store of its own."""

    def __init__(self, platform: Project, broker: LiveBroker, folder: Path) -> None:
        self.platform, self.broker, self.store = platform, broker, folder / "store"
        self.identity, self.key = folder / "kryonix.identity", folder / "kryonix.recipients"
        self.key.write_text(platform.kryonix("backup", "keygen", str(self.identity)).stdout)

    def arguments(self, command: str, *rest: str) -> list[str]:
        where = ["--to", str(self.store), "--recipient", str(self.key)]
        if command != "create":
            where = ["--from", str(self.store)]
        if command in ("show", "verify", "restore"):
            where += ["--identity", str(self.identity)]
        return ["backup", command, *where, *rest, "--stack", self.platform.stack, "--engine", "local"]

    def run(self, command: str, *rest: str) -> Result:
        if command == "create":  # a bundle is named by the second, and none is written over
            eventually("a second without a bundle", self.second_is_free)
        return self.platform.kryonix(*self.arguments(command, *rest))

    def must(self, command: str, *rest: str) -> Any:
        result = self.run(command, *rest, "--json")
        assert result.returncode == 0, f"{command} {rest}\n{result.stdout}\n{result.stderr}"
        return json.loads(result.stdout)

    def refused(self, status: int, command: str, *rest: str) -> str:
        result = self.run(command, *rest)
        assert result.returncode == status, f"{command} {rest}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result.stderr

    def start(self, command: str, *rest: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.platform.command(*self.arguments(command, *rest)),
            cwd=self.platform.folder,
            env=self.platform.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def second_is_free(self) -> bool:
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        return not any(now in file.name for file in self.files())

    def files(self) -> list[Path]:
        """Return everything in the store, hidden files too."""
        return [path for path in self.store.rglob("*") if path.is_file()]

    def contents(self, file: Path) -> dict[str, bytes]:
        """Return the members of a bundle. Raises InvalidBundle for one that is not whole."""
        return dict(unpack(file.read_bytes(), Identities.read([self.identity]), file.name).members)


@pytest.fixture(scope="module")
def env(platform: Project, broker: LiveBroker) -> Iterator[LifecycleEnv]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULUMI_CONFIG_PASSPHRASE", platform.env["PULUMI_CONFIG_PASSPHRASE"])
        with LifecycleEnv.on(platform, broker) as env, env.leaving_nothing() as made:
            yield made


@pytest.fixture(scope="module")
def backups(platform: Project, broker: LiveBroker, tmp_path_factory: pytest.TempPathFactory) -> Backups:
    return Backups(platform, broker, tmp_path_factory.mktemp("backups"))


def test_bundles_are_made_listed_shown_verified_and_pruned(backups: Backups) -> None:
    assert backups.identity.stat().st_mode & 0o777 == 0o600
    first = backups.must("create", "--tenant", "acme", "--tenant", "beta", "--platform")
    assert [made["bundle"].rpartition("/")[0] for made in first] == ["platform", "tenants/acme", "tenants/beta"]
    shown = backups.must("show", "acme")
    assert (shown["kind"], shown["subject"], shown["counts"]["queues"] > 80) == ("tenant", "acme", True)
    (proof,) = backups.must("verify", "beta")
    assert (proof["restores"], proof["differences"]) == (True, [])
    (proof,) = backups.must("verify", first[0]["address"])
    assert proof["restores"]
    assert not any(name.startswith("/kryonix-verify") for name in backups.broker.vhosts())

    backups.must("create", "--tenant", "beta")
    listed = {each["bundle"]: each["verified"] for each in backups.must("list")}
    newer, older = [name for name in listed if name.startswith("tenants/beta/")]
    assert (listed[newer], listed[older], listed[first[0]["bundle"]]) == (None, "verified", "verified")
    keep_one = ("--keep-daily", "0", "--keep-weekly", "0", "--keep-monthly", "0")
    assert backups.must("prune", *keep_one, "--dry-run")["deleted"] == []
    backups.must("create", "--tenant", "beta")
    assert "Add --yes" in backups.refused(2, "prune", *keep_one)
    pruned = backups.must("prune", *keep_one, "--yes")
    assert (pruned["deleted"], pruned["kept"][older]) == ([newer], ["newest verified"])
    assert newer not in {each["bundle"] for each in backups.must("list")}


def test_a_lost_tenant_stops_no_other_and_comes_back_as_it_was(backups: Backups, env: LifecycleEnv) -> None:
    credentials = env.create(ID, "crm")
    (bundle,) = backups.must("create", "--tenant", ID)
    backups.broker.call("DELETE", "vhosts", VHOST, "deletion", "protection")
    backups.broker.delete("vhosts", VHOST)
    backups.broker.delete("users", credentials.username)
    result = backups.run("create", "--all", "--json")
    outcomes = {made["subject"]: made["error"] for made in json.loads(result.stdout)}
    assert result.returncode == 1
    assert "has no vhost /cliente_keeper" in outcomes.pop(ID)
    assert {"acme", "beta", backups.platform.stack} <= set(outcomes)
    assert set(outcomes.values()) == {None}

    planned = backups.must("restore", ID, "--dry-run")
    assert (planned["exists"], VHOST in backups.broker.vhosts()) == (False, False)
    text = backups.run("restore", ID, "--dry-run").stdout
    assert "1 vhost" in text
    assert "Add --yes" in backups.refused(2, "restore", ID)
    backups.must("restore", ID, "--yes")
    assert connects(credentials)
    assert backups.must("restore", bundle["address"], "--yes")["differences"] == []
    stack = backups.platform.kryonix(
        "tenant", "converge", ID, "--stack", backups.platform.stack, "--engine", "local", "--json"
    )
    assert json.loads(stack.stdout)["changes"].keys() <= {"same", "read"}, stack.stdout


def test_a_restore_that_would_delete_messages_is_refused(backups: Backups) -> None:
    backups.broker.delete("queues", VHOST, LEADS)
    body = {"durable": True, "arguments": {"x-queue-type": "quorum", "x-max-length": 7}}
    backups.broker.call("PUT", "queues", VHOST, LEADS, json=body).raise_for_status()
    backups.broker.publish(VHOST, LEADS, 2)
    refused = backups.refused(2, "restore", ID, "--yes")
    assert f"2 messages in {LEADS}" in refused
    assert "--allow-delete" in refused
    done = backups.must("restore", ID, "--yes", "--allow-delete", LEADS)
    assert done["messages_to_delete"] in ({LEADS: 2}, {}), "counts are up to 5 s old"
    assert backups.must("restore", ID, "--dry-run")["differences"] == []


@pytest.mark.parametrize(
    ("status", "command", "message"),
    [
        (2, ("create",), "give --all for the platform and every tenant; or --platform, or --tenant ID"),
        (2, ("create", "--all", "--platform"), "give --all for the platform and every tenant"),
        (2, ("create", "--tenant", "acne"), "there is no tenant 'acne'"),
        (2, ("create", "--tenant", "acme", "--recipient", "nofile"), "nofile: can't be read"),
        (2, ("create", "--tenant", "acme", "--recipient", "age1wrong"), "is not a valid recipient"),
        (2, ("create", "--tenant", "acme", "--to", "ftp://x"), "ftp:// is not a store of backups"),
        (2, ("create", "--tenant", "acme", "--to", "s3://me:word@bucket"), "credentials don't belong into an address"),
        (2, ("show", "acme", "--identity", "Pulumi.yaml"), "is not a valid identity"),
        (2, ("show", "Pulumi.yaml"), "Pulumi.yaml: is not encrypted by age"),
        (2, ("show", "acne"), "is neither a file nor a bundle of stack"),
        (2, ("verify",), "give a BUNDLE, or --all"),
        (2, ("restore", "--all", "--as", "new", "--yes"), "--as is for the bundle of one tenant"),
        (2, ("restore", "acme", "--as", "new", "--yes"), "has no stack made by `kryonix tenant`, which 'new' needs"),
        (3, ("create", "--tenant", "acme", "--to", "/dev/null/store"), "Make /dev/null/store, writable"),
    ],
)
def test_what_can_not_be_done_is_refused_with_the_reason(
    backups: Backups, monkeypatch: pytest.MonkeyPatch, status: int, command: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(backups.platform.folder)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", backups.platform.env["PULUMI_CONFIG_PASSPHRASE"])
    before = backups.files()
    error = CliRunner().invoke(app, backups.arguments(*command)).exception  # a second less than a process of its own
    assert isinstance(error, KryonixError)
    assert (error.exit_status, message in str(error)) == (status, True), error
    assert backups.files() == before


def test_backups_at_the_same_time_leave_whole_bundles_only(backups: Backups) -> None:
    before = set(backups.files())
    with ExitStack() as stack:
        processes = [stack.enter_context(backups.start("create", "--tenant", "beta")) for _ in range(3)]
        statuses = [process.wait(120) for process in processes]
        errors = [process.stderr.read() for process in processes if process.stderr]
    made = set(backups.files()) - before
    assert len(made) == statuses.count(0) >= 1, errors
    assert set(statuses) <= {0, 1}
    assert all("exists already" in error for error, status in zip(errors, statuses, strict=True) if status)
    assert all("users.json" in backups.contents(file) for file in made)


def test_a_killed_backup_leaves_no_half_bundle_and_runs_again(backups: Backups) -> None:
    before = set(backups.files())
    with backups.start("create", "--all") as process:
        try:
            eventually("the first bundle is there", lambda: set(backups.files()) > before or process.poll() is not None)
        finally:
            process.kill()
    left = [file for file in set(backups.files()) - before if file.suffix == ".age"]
    assert all(backups.contents(file) for file in left)
    assert {made["error"] for made in backups.must("create", "--all")} == {None}


def test_no_secret_is_printed_or_stored_in_the_open(backups: Backups) -> None:
    (made,) = backups.must("create", "--tenant", "beta")
    members = backups.contents(Path(made["address"]))
    (row,) = json.loads(members["rows.json"])["tenants.rabbitmq_credentials"]
    hashes = [each["password_hash"] for each in (row, *json.loads(members["users.json"]))]
    outputs = backups.platform.outputs()
    secrets = [*hashes, outputs["tenants"]["beta"]["password"], outputs["admin_password"]]
    assert len(set(secrets)) == 5
    printed = "".join(
        result.stdout + result.stderr
        for command in (["list"], ["show", "beta", "--json"], ["verify", "beta"])
        for result in [backups.run(*command)]
    )
    secrets.append(backups.identity.read_text().splitlines()[-1])
    for secret in secrets:
        assert secret not in printed
        assert not [file for file in backups.files() if secret.encode() in file.read_bytes()]
    assert not any(outputs["admin_password"].encode() in member for member in members.values())
