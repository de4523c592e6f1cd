"""The page on the format names every field of a manifest and every way to give a store, and its examples are valid."""

from __future__ import annotations

import json
import re

from kryonix.backup.bundle import UNPACKED
from kryonix.backup.manifest import FORMAT, Manifest
from kryonix.backup.object_store import SCHEMES, SETTINGS_FILE_VARIABLE
from tests.support.pages import blocks
from tests.support.project import ROOT

PAGE = (ROOT / "docs" / "backup-format.md").read_text(encoding="utf-8")
EXAMPLES = [block.text for block in blocks() if block.page == "docs/backup-format.md" and block.text.startswith("{")]


def test_the_table_of_the_manifest_has_every_field() -> None:
    table = PAGE.split("## Manifest")[1].split("```")[0]
    named = {
        name for cell in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    assert named == set(Manifest.model_fields)


def test_the_example_of_a_manifest_is_valid() -> None:
    manifest = Manifest.read(EXAMPLES[0].encode(), "the page")
    assert set(json.loads(EXAMPLES[0])) == set(Manifest.model_fields)
    assert manifest.format == FORMAT


def test_the_limits_and_the_stores_are_those_of_the_code() -> None:
    tenant, platform = UNPACKED["tenant"] >> 20, UNPACKED["platform"] >> 30
    assert f"{tenant} MiB for a tenant, {platform} GiB for a platform" in PAGE
    assert [scheme for scheme in SCHEMES if f"`{scheme}://" not in PAGE] == []
    assert SETTINGS_FILE_VARIABLE in PAGE
    assert json.loads(EXAMPLES[1])
