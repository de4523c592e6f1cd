"""One value of a stack's config file is changed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kryonix.engines.stack_config import set_value, with_value
from kryonix.errors import InvalidChoice

FILE = """# The platform in production.
encryptionsalt: v1:abc
config:
  # Where it listens.
  kryonix:bindAddress: 10.0.0.1 # eth0
  kryonix:tls: "true"
"""


def changed(text: str) -> str:
    return with_value(text.encode(), "Pulumi.prod.yaml", "kryonix:caTrusted", [1, 2]).decode()


def test_a_new_key_is_added_and_every_other_line_stays() -> None:
    lines = changed(FILE).splitlines()
    assert "  kryonix:caTrusted: [1, 2]" in lines
    assert [line for line in lines if "caTrusted" not in line] == FILE.splitlines()


@pytest.mark.parametrize(
    "old",
    [
        "  kryonix:caTrusted: [1]\n",
        "  kryonix:caTrusted: [\n    1,\n    3]\n",
        "  kryonix:caTrusted:\n    - 1\n    - 3\n",
        "  kryonix:caTrusted:\n  - 1\n  - 3\n",
        "  caTrusted: [1]\n",
    ],
)
@pytest.mark.parametrize("after", ["", "  kryonix:zone: a\n", "\n# The end.\nsecretsprovider: passphrase\n"])
def test_a_value_in_any_form_is_replaced_where_it_is(old: str, after: str) -> None:
    assert changed(FILE + old + after) == f"{FILE}  kryonix:caTrusted: [1, 2]\n{after}"


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "config:\n", "config: {}\n", "encryptionsalt: v1:abc"])
def test_a_file_without_config_gets_one_or_is_left_to_its_owner(text: str) -> None:
    if "{}" in text:
        with pytest.raises(InvalidChoice, match=r"Set kryonix:caTrusted: \[1, 2\] there yourself"):
            changed(text)
    else:
        assert yaml.safe_load(changed(text))["config"] == {"kryonix:caTrusted": [1, 2]}


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(FILE)
    file.chmod(0o640)
    set_value(file, "kryonix:caIssuing", 2)
    assert yaml.safe_load(file.read_text())["config"]["kryonix:caIssuing"] == 2
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_named_with_the_value(tmp_path: Path) -> None:
    with pytest.raises(InvalidChoice, match=r"can't be changed.*Set kryonix:caIssuing: 2 there"):
        set_value(tmp_path / "missing" / "Pulumi.prod.yaml", "kryonix:caIssuing", 2)
