"""The container of the scheduled backups, and its config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pulumi
import pulumi_docker as docker
import pytest

from components.backup import Backup, BackupArgs
from components.backup_settings import BackupSettings
from components.platform import Platform
from components.platform_inside import broker_inside
from components.product import ProductSettings
from components.product_container import CA_FILE
from tests.support.mocked import Recorder, registered

AGE = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN an operator"
FOLDER = "/mnt/bundles"


def settings(**changed: Any) -> BackupSettings:
    return BackupSettings(**{"to": FOLDER, "recipients": [AGE, SSH], **changed})


def problems(**changed: Any) -> list[str]:
    return settings(**changed).problems()


def registrations(product: ProductSettings, *, tls: bool = False, **changed: Any) -> Recorder:
    """The registrations of the component on a platform."""

    def program() -> None:
        dsn = pulumi.Output.secret("postgresql://kryonix_backup:a-login@postgres:5432/kryonix_main")
        platform = SimpleNamespace(
            broker_network=docker.Network("broker", name="broker-net"),
            registry_network=docker.Network("registry", name="registry-net"),
            inside=SimpleNamespace(
                backup_dsn=dsn,
                broker=broker_inside(tls=tls),
                trust_files={CA_FILE: "the platform's CA"} if tls else {},
            ),
            outputs=SimpleNamespace(data=None, registry_dsn=dsn),
        )
        Backup("backup", BackupArgs(settings=settings(**changed), platform=cast("Platform", platform), product=product))

    return registered(program)


def container(product: ProductSettings | None = None, **changed: Any) -> Mapping[str, Any]:
    made = registrations(product or ProductSettings(), **changed).of("docker:index/container:Container")
    return made["backup-container"]


def files(inputs: Mapping[str, Any]) -> dict[str, str]:
    return {upload["file"]: upload["content"] for upload in inputs["uploads"]["value"]}


def test_with_tls_it_trusts_the_platforms_ca_only() -> None:
    made = registrations(ProductSettings(), tls=True).of("docker:index/container:Container")
    uploaded = files(made["backup-container"])
    (known,) = json.loads(uploaded["/etc/kryonix/platform.json"]).values()
    assert known["management_url"] == "https://rabbitmq:15671"
    assert known["amqp_addresses"] == ["rabbitmq:5671"]
    assert uploaded["/etc/kryonix/ca.pem"] == "the platform's CA"


def test_the_container_has_no_rights_and_one_command() -> None:
    inputs = container(jitter_minutes=0)
    assert inputs["capabilities"] == {"drops": ["ALL"]}
    assert inputs["user"] == "10001:10001"
    assert inputs["name"] == "kryonix-dev-backup"
    assert " ".join(inputs["command"]) == (
        "backup schedule --stack dev --to /mnt/bundles --at 02:00 --time-zone UTC --jitter-minutes 0 --keep-daily 7 "
        "--keep-weekly 5 --keep-monthly 12 --recipient /etc/kryonix/recipients "
        "--identity /var/lib/kryonix-backup/identity --alive-file /tmp/alive"
    )
    compile(inputs["healthcheck"]["tests"][-1], "healthcheck", "exec")


def test_it_knows_its_own_accounts_only() -> None:
    recorder = registrations(ProductSettings())
    (user,) = recorder.of("rabbitmq:index/user:User").values()
    assert (user["name"], user["tags"]) == ("kryonix-backup", ["administrator"])
    assert recorder.of("rabbitmq:index/permissions:Permissions") == {}
    uploaded = files(container())
    (known,) = json.loads(uploaded["/etc/kryonix/platform.json"]).values()
    assert known["admin_username"] == "kryonix-backup"
    assert known["admin_password"] == "backup-password's secret"
    assert known["registry_dsn"] == known["signup_dsn"]
    assert "kryonix_backup:" in known["registry_dsn"]
    assert uploaded["/etc/kryonix/recipients"] == f"{AGE}\n{SSH}\n"


def test_a_stores_credentials_are_in_a_file_only() -> None:
    login = '{"aws_secret_access_key": "of the store"}'
    inputs = container(to="s3://bundles/messaging", credentials=login)
    assert files(inputs)["/etc/kryonix/backup_store.json"] == login
    assert "KRYONIX_BACKUP_STORE_FILE=/etc/kryonix/backup_store.json" in inputs["envs"]
    assert "of the store" not in json.dumps({key: value for key, value in inputs.items() if key != "uploads"})
    assert "of the store" not in repr(settings(credentials=login))
    assert "backup_store" not in json.dumps(container()["envs"])


def test_a_folder_is_the_hosts_and_the_tenants_state_is_read_only() -> None:
    keys = {"containerPath": "/var/lib/kryonix-backup", "volumeName": "kryonix-dev-backup-keys"}
    state = {"containerPath": "/var/lib/kryonix", "volumeName": "kryonix-dev-signup-state", "readOnly": True}
    folder = {"containerPath": FOLDER, "hostPath": FOLDER}
    assert container()["volumes"] == [keys, folder]
    assert container(ProductSettings(signup=True))["volumes"] == [keys, folder, state]
    assert container(to="gs://bundles")["volumes"] == [keys]


@pytest.mark.parametrize("to", [FOLDER, "/srv/kryonix-backups", "/var/backups", "s3://bundles", "az://c/a/b", "gs://b"])
def test_a_folder_or_a_store_is_accepted(to: str) -> None:
    assert problems(to=to) == []


@pytest.mark.parametrize(
    ("to", "problem"),
    [
        ("", "missing. Set a folder"),
        ("backups", "not a folder of the Docker host"),
        ("/mnt/../etc", "not a folder of the Docker host"),
        ("/mnt/a:b", "not a folder of the Docker host"),
        ("/mnt/", "not a folder of the Docker host"),
        ("/", "would hide the container's own files"),
        ("/var/lib", "would hide the container's own files"),
        ("/srv/kryonix/bundles", "would hide the container's own files"),
        ("ftp://host/folder", "'ftp://host/folder' is not the address of a store"),
        ("s3://", "'s3://' is not the address of a store"),
        ("s3://[bundles", "not a valid address"),
        ("s3://key:hidden@bundles", "the address has more than a bucket and a folder"),
        ("s3://bundles?signature=hidden", "the address has more than a bucket and a folder"),
    ],
)
def test_another_address_is_refused(to: str, problem: str) -> None:
    (found,) = problems(to=to)
    assert found.startswith("kryonix:backupTo: ")
    assert problem in found
    assert "hidden" not in found


@pytest.mark.parametrize("recipients", [[], [AGE, ""], [7]])
def test_a_recipient_is_required(recipients: list[object]) -> None:
    (found,) = problems(recipients=recipients)
    assert found.startswith("kryonix:backupRecipients: give a list of texts")


@pytest.mark.parametrize(
    ("recipient", "problem"),
    [
        ("age1hello", "'age1hello' is not a valid recipient"),
        ("an operator", "is not a recipient"),
        ("AGE-SECRET-KEY-1HIDDEN", "is a private key"),
    ],
)
def test_a_wrong_recipient_is_named_but_never_a_secret_key(recipient: str, problem: str) -> None:
    (found,) = problems(recipients=[AGE, recipient])
    assert found.startswith(f"kryonix:backupRecipients, line 2: {problem}")
    assert "HIDDEN" not in found


@pytest.mark.parametrize("credentials", ["hidden", '["hidden"]', '{"timeout": {"hidden": 5}}'])
def test_credentials_are_a_secret_object_of_texts(credentials: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_config_secret", lambda _: True)
    store = {"to": "s3://bundles", "credentials": credentials}
    (found,) = problems(**store)
    assert found.startswith("kryonix:backupCredentials: not a JSON object of texts")
    assert "hidden" not in found
    assert problems(**{**store, "credentials": '{"aws_region": "sa-east-1"}'}) == []
    assert "takes none" in problems(credentials='{"aws_region": "sa-east-1"}')[0]
    monkeypatch.setattr(pulumi.runtime, "is_config_secret", lambda _: False)
    assert "in plain text" in problems(**{**store, "credentials": '{"aws_region": "sa-east-1"}'})[0]


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        to="",
        recipients=[],
        at="2:00",
        time_zone="America/Kryonix",
        jitter_minutes=721,
        keep_daily=0,
        keep_weekly=-1,
        keep_monthly=0,
    )
    assert [line.partition(":")[2].partition(":")[0] for line in found] == [
        "backupTo",
        "backupRecipients",
        "backupAt",
        "backupTimeZone",
        "backupJitterMinutes",
        "backupKeepWeekly",
    ]
    (none,) = problems(keep_daily=0, keep_weekly=0, keep_monthly=0)
    assert "no bundle would be kept" in none
    assert problems(keep_daily=0, keep_weekly=0) == []


def test_it_is_refused_where_it_could_not_reach_a_cell() -> None:
    (found,) = settings().problems(["west"])
    assert found.startswith("kryonix:backup: there are cells of other platforms: west.")


@pytest.mark.parametrize("at", ["24:00", "02:60", "02:00 ", "noon"])
def test_only_a_time_of_day_is_accepted(at: str) -> None:
    assert problems(at=at) == [f"kryonix:backupAt: {at!r} is not a time of day. Write it like 02:00"]


@pytest.mark.parametrize("zone", ["", "../UTC", "/etc/localtime", "UTC\0"])
def test_a_time_zone_is_a_name(zone: str) -> None:
    (found,) = problems(time_zone=zone)
    assert found.startswith("kryonix:backupTimeZone: ")


def test_the_image_has_the_folder_of_the_keys() -> None:
    made = (Path(__file__).parents[3] / "Dockerfile").read_text()
    assert "chown 10001:10001 /var/lib/kryonix /var/lib/kryonix-backup /tls\n" in made
