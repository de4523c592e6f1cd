"""Project and stack files: values for the program, and errors before it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kryonix.engines.errors import Refused
from kryonix.engines.local import LocalStack
from kryonix.engines.local.errors import ConfigError, LocalError, PassphraseError
from kryonix.engines.local.secrets import Vault
from tests.support.engine_testbed import EngineTestbed

PROJECT = """
name: demo
runtime: {name: python, options: {virtualenv: .venv}}
config:
  image: {type: string, description: the image, default: rabbitmq}
  replicas: {type: integer, default: 3}
  open: {type: boolean, default: false}
  cells: {type: array, items: {type: string}, default: [a, b]}
  tenant: {type: object, default: {}}
  domain: {type: string, description: where it is reached}
"""
PROGRAM = """
import json
from pulumi.runtime.config import CONFIG
c = pulumi.Config()
pulumi.export("all", json.dumps(dict(CONFIG.get())))
pulumi.export("token", c.get_secret("token") or "")
"""


@pytest.fixture
def declared(testbed: EngineTestbed) -> EngineTestbed:
    (testbed.folder / "Pulumi.yaml").write_text(PROJECT)
    testbed.program(PROGRAM)
    return testbed


def configure(testbed: EngineTestbed, text: str, name: str = "Pulumi.dev.yaml") -> Path:
    path = testbed.folder / name
    path.write_text(text)
    return path


def refused(testbed: EngineTestbed) -> tuple[str, ...]:
    """Return the config errors that a preview reports."""
    with pytest.raises(ConfigError) as caught:
        testbed.stack().preview()
    assert caught.value.exit_status == 2
    return tuple(str(caught.value).split("\n"))


def test_the_program_gets_config_values_as_from_the_cli(declared: EngineTestbed) -> None:
    configure(
        declared,
        "config:\n  demo:domain: x.org\n  demo:replicas: 5\n  demo:open: true\n  demo:tenant: {id: a, n: 2, on: true}\n"
        "  docker:host: unix:///d.sock\n",
    )
    declared.stack().up()
    assert json.loads(declared.stack().outputs()["all"]) == {
        "demo:image": "rabbitmq",
        "demo:replicas": "5",
        "demo:open": "true",
        "demo:cells": '["a","b"]',
        "demo:tenant": '{"id":"a","n":2,"on":true}',
        "demo:domain": "x.org",
        "docker:host": "unix:///d.sock",
    }


def test_another_config_file_replaces_the_stacks_own(declared: EngineTestbed) -> None:
    configure(declared, "config: {demo:domain: mine.org}")
    other = configure(declared, "config: {demo:domain: other.org}", "other.yaml")
    declared.stack(config_file=other).up()
    assert json.loads(declared.stack().outputs()["all"])["demo:domain"] == "other.org"
    with pytest.raises(ConfigError, match=r"none\.yaml can't be read: No such file"):
        declared.stack(config_file=declared.folder / "none.yaml").up()


def test_all_config_errors_are_reported_with_line_key_value_and_rule(declared: EngineTestbed) -> None:
    configure(declared, "config:\n  demo:imgae: x\n  demo:replicas: many\n  demo:open: maybe\n  demo:cells: a\n")
    problems = refused(declared)
    assert len(problems) == 5
    text = "\n".join(problems)
    assert "Pulumi.dev.yaml:2: demo:imgae: not a config key of this project; did you mean 'demo:image'?" in text
    assert "did you mean 'demo:image'?" in text
    assert "Pulumi.dev.yaml:3: demo:replicas: the value is 'many', not a whole number" in text
    assert "Pulumi.dev.yaml:4: demo:open: the value is 'maybe', not true or false" in text
    assert "Pulumi.dev.yaml:5: demo:cells: the value is 'a', not a list" in text
    assert "demo:domain: the key has no value, and the project has no default for it (where it is reached)" in text
    assert declared.service.log() == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a\n- b\n", "is not a mapping"),
        ("config:\n  demo:domain: a\n  demo:domain: b\n", ":3: config.demo:domain: the key"),
        ("config:\n\tdemo:domain: a\n", "indented with a tab"),
        ("config: 7\n", ":1: `config` is not a mapping"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n",
         "expand beyond"),
        ("x: '" + "y" * 4_200_000 + "'", "the limit is 4,194,304"),
    ],
    ids=["a list", "a key twice", "a tab", "no mapping", "a bomb", "too long"],
)  # fmt: skip
def test_a_stack_file_without_a_config_mapping_is_refused(declared: EngineTestbed, text: str, problem: str) -> None:
    configure(declared, text)
    assert problem in refused(declared)[0]


def test_a_stack_file_that_is_not_utf8_is_refused(declared: EngineTestbed) -> None:
    (declared.folder / "Pulumi.dev.yaml").write_bytes(b"config: \xff\xfe")
    assert "is not UTF-8" in refused(declared)[0]


def test_an_empty_stack_file_is_an_empty_config(testbed: EngineTestbed) -> None:
    for text in ("", "# nothing yet\n"):
        configure(testbed, text)
        testbed.program("")
        assert testbed.stack().preview().changes == {"create": 1}


def test_a_secret_value_reaches_the_program_as_a_secret(testbed: EngineTestbed) -> None:
    vault = Vault()
    configure(
        testbed, f"encryptionsalt: {vault.state}\nconfig:\n  demo:token:\n    secure: {vault.encrypt('hunter2')}\n"
    )
    testbed.up(PROGRAM)
    assert testbed.stack().outputs()["token"] == "[secret]"
    assert testbed.stack().outputs(show_secrets=True)["token"] == "hunter2"
    salt = testbed.stack().export()["deployment"]["secrets_providers"]["state"]["salt"]
    assert salt == vault.state


def test_a_nested_secret_makes_the_whole_value_secret(testbed: EngineTestbed) -> None:
    vault = Vault()
    configure(
        testbed,
        f"encryptionsalt: {vault.state}\n"
        f"config:\n  demo:token:\n    inner: {{secure: '{vault.encrypt('hunter2')}'}}\n    n: 1\n",
    )
    testbed.up(PROGRAM)
    assert testbed.stack().outputs(show_secrets=True)["token"] == '{"inner":"hunter2","n":1}'
    assert testbed.stack().outputs()["token"] == "[secret]"


def test_a_wrong_config_passphrase_is_reported_before_any_change(
    testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault()
    with monkeypatch.context() as patch:
        patch.setenv("PULUMI_CONFIG_PASSPHRASE", "another")
        secret = f"    secure: {vault.encrypt('hunter2')}\n"
    configure(testbed, f"encryptionsalt: {vault.state}\nconfig:\n  demo:token:\n{secret}")
    with pytest.raises(PassphraseError, match=r"Pulumi.dev.yaml: demo:token: The passphrase is not the one"):
        testbed.up(PROGRAM)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runtime: python\n", "`name` is missing"),
        ("name: demo\nruntime: nodejs\n", "`runtime` is 'nodejs'"),
        (
            "name: demo\nruntime: python\nconfig: {a: {type: text}}\n",
            ":3: a: 'text' is not a valid type; allowed: string",
        ),
        *(
            (f"name: demo\nruntime: python\nconfig: {{{declared}}}\n", f":3: {message}")
            for declared, message in (
                ("a: 3", "a: it needs a `type`: string, "),
                ("a: {default: 3}", "a: it needs a `type`: string, "),
                ("a: {type: [string]}", "a: it needs a `type`: string, "),
                ("a: {type: array}", "a: `items`: it needs a `type`: string, "),
                ("'docker:host': unix", "docker:host: a key of another namespace can't be declared here"),
            )
        ),
        ("name: demo\nruntime: python\n", "The program .* does not exist"),
        ("name: demo\nruntime: python\nmain: other/\n", "uses `main`, which the local engine does not support"),
    ],
)
def test_an_unusable_project_file_is_refused(testbed: EngineTestbed, text: str, message: str) -> None:
    (testbed.folder / "Pulumi.yaml").write_text(text)
    with pytest.raises(LocalError, match=message) as caught:
        testbed.stack().preview()
    assert caught.value.exit_status == 2


def test_a_folder_without_a_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Pulumi\.yaml can't be read"):
        LocalStack(tmp_path, "dev").preview()


@pytest.mark.parametrize("name", ["", "../dev", ".hidden", "a/b", "a b"])
def test_an_invalid_stack_name_is_refused(testbed: EngineTestbed, name: str) -> None:
    with pytest.raises(Refused, match="is not a valid stack name"):
        testbed.stack(name)
