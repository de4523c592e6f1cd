"""State, secrets and their files."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from kryonix.engines.deployments import emptied
from kryonix.engines.local import LocalStack
from kryonix.engines.local.errors import InvalidProgramInput, PassphraseError, ServiceUnavailable, StateCorrupt
from kryonix.engines.local.secrets import Vault, read_passphrase
from tests.support.engine_testbed import EngineTestbed

ONE = """
a = Thing("a", {"password": pulumi.Output.secret("hunter2")})
pulumi.export("token", a.token)
"""


def folder(testbed: EngineTestbed) -> Path:
    return testbed.folder / ".kryonix" / "stacks" / "dev"


def test_the_export_is_a_version_3_deployment_for_the_cli(testbed: EngineTestbed) -> None:
    testbed.up(ONE)
    exported = testbed.stack().export()
    manifest = exported["deployment"]["manifest"]
    assert exported["version"] == 3
    assert manifest["magic"] == hashlib.sha256(manifest["version"].encode()).hexdigest()
    assert exported["deployment"]["secrets_providers"]["type"] == "passphrase"


def test_resources_follow_their_references(testbed: EngineTestbed) -> None:
    testbed.up('a = Thing("a"); g = Group("g")\nThing("b", {"ref": a.made}, pulumi.ResourceOptions(parent=g))')
    testbed.up("""
        g = Group("g")
        new = Thing("new")
        a = Thing("a", {"ref": new.made})
        Thing("b", {"ref": a.made}, pulumi.ResourceOptions(parent=g))
    """)
    seen: set[str] = set()
    for resource in testbed.stack().export()["deployment"]["resources"]:
        needs = [*resource.get("dependencies", []), resource.get("parent"), resource.get("provider", "")]
        assert all(not urn or urn in seen or urn.rsplit("::", 1)[0] in seen for urn in needs)
        seen.add(resource["urn"])


def test_no_secret_is_stored_in_plain(testbed: EngineTestbed) -> None:
    testbed.up(ONE)
    assert "hunter2" not in testbed.state_text()
    assert "token-of-a" not in testbed.state_text()
    assert "hunter2" not in json.dumps(testbed.stack().export())


def test_a_rewritten_state_keeps_the_ciphertext_of_what_stays(testbed: EngineTestbed) -> None:
    testbed.up(f"{ONE}\nThing('gone')")
    before, calls = testbed.stack().export(), testbed.service.log()

    def without(document: dict[str, Any]) -> dict[str, Any]:
        kept = [data for data in document["deployment"]["resources"] if not data["urn"].endswith("::gone")]
        assert "hunter2" in json.dumps(kept)
        return {**document, "deployment": {**document["deployment"], "resources": kept}}

    testbed.stack().rewrite(without)
    after = testbed.stack().export()
    gone = [data for data in before["deployment"]["resources"] if data not in after["deployment"]["resources"]]
    assert [data["urn"].rpartition("::")[2] for data in gone] == ["gone"]
    assert testbed.service.log() == calls, "no resource is touched"
    assert testbed.up(ONE).changed is False


def test_a_new_stack_has_a_key_of_its_own(testbed: EngineTestbed) -> None:
    testbed.up(ONE)
    document = testbed.stack().export(show_secrets=True)
    other = LocalStack(testbed.folder, "other")
    other.rewrite(lambda _: json.loads(json.dumps(document).replace("urn:pulumi:dev:", "urn:pulumi:other:")))
    found = other.export()["deployment"]
    assert found["secrets_providers"]["state"] != document["deployment"]["secrets_providers"]["state"]
    assert "hunter2" not in json.dumps(found)
    assert other.outputs(show_secrets=True) == testbed.stack().outputs(show_secrets=True)


def test_a_restored_state_opens_with_the_passphrase_it_was_made_with(testbed: EngineTestbed) -> None:
    testbed.up(ONE)
    before, calls = testbed.stack().export(), testbed.service.log()
    testbed.stack().rewrite(emptied)
    testbed.stack().restore(before)
    assert testbed.stack().export()["deployment"]["resources"] == before["deployment"]["resources"]
    assert testbed.service.log() == calls, "no resource is touched"
    assert testbed.up(ONE).changed is False


def test_a_state_of_another_passphrase_or_stack_is_not_restored(
    testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    testbed.up(ONE)
    exported, on_disk = testbed.stack().export(), testbed.state_text()
    with pytest.raises(InvalidProgramInput, match=r"'other' is not that of stack 'other'.*contains urn:pulumi:dev::"):
        LocalStack(testbed.folder, "other").restore(exported)
    with pytest.raises(StateCorrupt, match="is not a deployment"):
        testbed.stack().restore({})
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "wrong")
    with pytest.raises(PassphraseError, match=r"not the one that the deployment to restore as 'dev'.*Nothing"):
        testbed.stack().restore(exported)
    assert testbed.state_text() == on_disk
    assert not LocalStack(testbed.folder, "other").has_resources


def test_state_files_are_readable_by_their_owner_only(testbed: EngineTestbed) -> None:
    testbed.up(ONE)
    testbed.up("")
    for path in folder(testbed).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(folder(testbed).stat().st_mode) == 0o700
    assert (folder(testbed) / "checkpoint.json.bak").exists()


def test_no_secret_of_a_destroyed_stack_remains_on_disk(testbed: EngineTestbed) -> None:
    testbed.up(ONE)
    assert "ciphertext" in testbed.state_text()
    testbed.stack().destroy()
    assert [path.name for path in folder(testbed).iterdir() if "ciphertext" in path.read_text()] == []


def test_the_state_folder_can_be_elsewhere(
    testbed: EngineTestbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRYONIX_STATE_DIR", str(tmp_path / "elsewhere"))
    testbed.up(ONE)
    assert (tmp_path / "elsewhere" / "dev" / "checkpoint.json").exists()
    assert not (testbed.folder / ".kryonix").exists()


def test_a_wrong_passphrase_is_refused_before_any_change(
    testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    testbed.up(ONE)
    testbed.service.forget_log()
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "wrong")
    for operation in (testbed.stack().up, testbed.stack().destroy, testbed.stack().refresh, testbed.stack().preview):
        with pytest.raises(PassphraseError, match="set PULUMI_CONFIG_PASSPHRASE") as caught:
            operation()
        assert caught.value.exit_status == 3
    assert not [line for line in testbed.service.log() if line.startswith(("create", "delete", "read"))]


def test_a_missing_passphrase_is_refused_before_any_change(
    testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    with pytest.raises(PassphraseError, match="none is set"):
        testbed.up('Thing("a")')
    assert testbed.service.things() == {}


def test_the_passphrase_can_be_empty_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("  from a file\n")
    file = {"PULUMI_CONFIG_PASSPHRASE_FILE": str(tmp_path / "p")}
    assert read_passphrase(file) == "from a file"
    assert read_passphrase(file | {"PULUMI_CONFIG_PASSPHRASE": ""}) == ""
    with pytest.raises(PassphraseError, match="can't be read"):
        read_passphrase({"PULUMI_CONFIG_PASSPHRASE_FILE": str(tmp_path / "none")})
    with pytest.raises(PassphraseError, match="none is set"):
        read_passphrase({"PULUMI_CONFIG_PASSPHRASE_FILE": ""})


def test_a_missing_passphrase_names_the_demos_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".kryonix").mkdir()
    (tmp_path / ".kryonix" / "passphrase").touch()
    with pytest.raises(PassphraseError, match=r"`export PULUMI_CONFIG_PASSPHRASE_FILE=\$PWD/.kryonix/passphrase`"):
        read_passphrase({})


def test_a_cli_encryption_salt_opens_with_its_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real number of rounds
    state = "v1:9rfDtt7Ct3k=:v1:CczCR5S/EbQmk4yW:B+npVZxZ20W1LlT1MBzxxRfX/Gsiqg=="
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "x")
    assert Vault(state, where="a test").state == state


def test_an_export_is_a_checkpoint_in_a_new_folder(testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    testbed.up(ONE)
    exported = testbed.stack().export()
    new = testbed.folder / "new"
    monkeypatch.setenv("KRYONIX_STATE_DIR", str(new))
    (new / "dev").mkdir(parents=True)
    (new / "dev" / "checkpoint.json").write_text(json.dumps(exported))
    assert testbed.stack().up().changes == {"same": 2}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: d.update(version=4), "format 4"),
        (lambda d: d.pop("deployment"), "is not a deployment"),
        (lambda d: d["deployment"].update(secrets_providers={"type": "service"}), "secrets provider 'service'"),
        *(
            (
                lambda d, field=field, value=value: d["deployment"]["resources"][-1].update({field: value}),
                "TypeError|Attri",
            )
            for field, value in (
                ("provider", 1),
                ("dependencies", [{}]),
                ("propertyDependencies", 1),
                ("type", {}),
                ("outputs", 1),
            )
        ),
    ],
)
def test_an_invalid_deployment_is_refused(testbed: EngineTestbed, change: Any, error: str) -> None:
    testbed.up(ONE)
    exported = testbed.stack().export()
    change(exported)
    (folder(testbed) / "checkpoint.json").write_text(json.dumps(exported))
    with pytest.raises(StateCorrupt, match=error):
        testbed.stack().up()


NO_URN = '{"version": 3, "deployment": {"resources": [{"urn": 3, "type": "a:b:C"}]}}'


@pytest.mark.parametrize("urn", ["urn:pulumi:other::demo::a:b:C::a", "urn:pulumi:dev::other::a:b:C::a"])
def test_another_stacks_state_is_refused(testbed: EngineTestbed, urn: str) -> None:
    testbed.up(ONE)
    file = folder(testbed) / "checkpoint.json"
    document = json.loads(file.read_text())
    document["deployment"]["resources"][-1]["urn"] = urn
    file.write_text(json.dumps(document))
    before = file.read_bytes()
    for operation in (testbed.stack().up, testbed.stack().preview, testbed.stack().refresh, testbed.stack().destroy):
        with pytest.raises(InvalidProgramInput, match="not that of stack 'dev' of project 'demo'"):
            operation()
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 3}', '{"version": 3, "deployment": {"resources": [{}]}}', NO_URN]
)
def test_an_unreadable_state_is_never_overwritten(testbed: EngineTestbed, text: str) -> None:
    testbed.up(ONE)
    (folder(testbed) / "checkpoint.json").write_text(text)
    for operation in (testbed.stack().up, testbed.stack().preview, testbed.stack().destroy, testbed.stack().outputs):
        with pytest.raises(StateCorrupt, match=r"checkpoint\.json") as caught:
            operation()
        assert caught.value.exit_status == 3
    assert (folder(testbed) / "checkpoint.json").read_text() == text


def test_an_unreadable_states_backup_is_named_only_if_it_exists(testbed: EngineTestbed) -> None:
    testbed.up(ONE)
    backup = folder(testbed) / "checkpoint.json.bak"
    backup.unlink(missing_ok=True)
    (folder(testbed) / "checkpoint.json").write_text("{")
    with pytest.raises(StateCorrupt, match="It has no backup"):
        testbed.stack().outputs()
    backup.touch()
    with pytest.raises(StateCorrupt, match=re.escape(f"by its backup, {backup}")):
        testbed.stack().outputs()


def _journal(testbed: EngineTestbed, text: str) -> None:
    data = (folder(testbed) / "checkpoint.json").read_bytes()
    head = {"journal": 1, "base": hashlib.sha256(data).hexdigest(), "salt": ""}
    (folder(testbed) / "journal.jsonl").write_text(json.dumps(head) + "\n" + text)


def test_a_truncated_last_journal_line_is_ignored(testbed: EngineTestbed) -> None:
    testbed.up(ONE)
    urn = testbed.resources()["a"]["urn"]
    _journal(testbed, json.dumps({"drop": [urn]}) + '\n{"drop": ["urn')
    assert set(testbed.resources()) == {"demo-dev", "default"}


WRONG_FIELD = '{"put": [{"urn": "urn:pulumi:dev::demo::t::a", "type": "t", "dependencies": [{}]}]}\n'


@pytest.mark.parametrize("text", ['nonsense\n{"drop": []}\n', "3\n", "[]\n3\n", '{"put": [{"x": 1}]}\n', WRONG_FIELD])
def test_an_unreadable_journal_stops_the_run(testbed: EngineTestbed, text: str) -> None:
    testbed.up(ONE)
    _journal(testbed, text)
    for operation in (testbed.stack().up, testbed.stack().preview, testbed.stack().destroy, testbed.stack().export):
        with pytest.raises(StateCorrupt, match=r"The journal .*journal\.jsonl can't be read"):
            operation()


@pytest.mark.parametrize("root", ["/proc/none", "/dev/null"])
def test_an_uncreatable_state_folder_is_reported(
    testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.setenv("KRYONIX_STATE_DIR", root)
    with pytest.raises(ServiceUnavailable, match=f"The state folder {root}/dev can't be created"):
        testbed.up(ONE)
    assert testbed.service.things() == {}


@pytest.mark.parametrize(
    ("file", "error"),
    [
        ("checkpoint.json", r"The state .*/checkpoint\.json can't be read: Is a directory"),
        ("journal.jsonl", r"The state .*/journal\.jsonl can't be read: Is a directory"),
        ("lock", "The state folder .*/dev can't be created or written: Is a directory"),
    ],
)
def test_a_folder_in_place_of_a_file_is_refused(testbed: EngineTestbed, file: str, error: str) -> None:
    testbed.up(ONE)
    (folder(testbed) / file).unlink(missing_ok=True)
    (folder(testbed) / file).mkdir()
    with pytest.raises(ServiceUnavailable, match=error):
        testbed.stack().up()


def test_a_merged_journal_is_ignored(testbed: EngineTestbed) -> None:
    testbed.up(ONE)
    urn = testbed.resources()["a"]["urn"]
    (folder(testbed) / "journal.jsonl").write_text('{"base": "another"}\n' + json.dumps({"drop": [urn]}) + "\n")
    assert "a" in testbed.resources()


def test_a_full_disk_stops_the_run_before_the_next_change(
    testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("kryonix.engines.local.store.os.fdatasync", full)
        with pytest.raises(ServiceUnavailable, match="No space left"):
            testbed.up('Thing("a")')
    assert testbed.service.things() == {}
    testbed.stack().up()
    assert set(testbed.service.things()) == {"a"}


def test_no_repr_shows_a_secret(testbed: EngineTestbed) -> None:
    stack: LocalStack = testbed.stack()
    testbed.up(ONE)
    vault = Vault()
    for thing in (stack, vault, *testbed.events):
        assert "hunter2" not in repr(thing)
        assert "passphrase" not in repr(thing)
