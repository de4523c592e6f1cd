"""Added lines are read the same under any configuration of git, the user's or the repository's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kryonix.errors import InvalidChoice
from kryonix.review.base import git
from kryonix.review.plain_text import AddedLine, lines_of_diff
from tests.support.review_repository import Repository

CONFIG = {
    "color.ui": "always",
    "core.quotePath": "true",
    "diff.context": "5",
    "diff.external": "false",
    "diff.interHunkContext": "10",
    "diff.mnemonicPrefix": "true",
    "diff.noprefix": "true",
    "diff.relative": "true",
    "diff.renames": "copies",
    "diff.suppressBlankEmpty": "true",
    "diff.wordRegex": ".",
}
ATTRIBUTES = "*.yaml -diff\n*.env binary\n"


@pytest.fixture
def changed(tmp_path: Path) -> Repository:
    made = Repository.empty(tmp_path / "it")
    made.write("extra é.yaml", "a: 1\nb: 2\n\nc: 3\nd: 4")
    made.write("old.yaml", "".join(f"key{n}: {n}\n" for n in range(9)))
    made.commit()
    made.write("extra é.yaml", "password: x\nb: 2\n\nc: 3\nd: 5")
    made.git("mv", "old.yaml", "new.yaml")
    return made


def read(repository: Repository) -> tuple[list[AddedLine], list[str]]:
    found = git.Repository.around(repository.folder)
    assert found is not None
    base = found.revision("HEAD")
    return list(base.added_lines()), base.changed("*.yaml")


def test_any_configuration_gives_the_same_lines(changed: Repository) -> None:
    lines, paths = expected = read(changed)
    assert [line for line in lines if line.file == "extra é.yaml"] == [
        AddedLine("extra é.yaml", 1, "password: x"),
        AddedLine("extra é.yaml", 5, "d: 5"),
    ]
    assert paths == ["extra é.yaml", "new.yaml", "old.yaml"]
    for name, value in CONFIG.items():
        changed.git("config", name, value)
        assert read(changed) == expected, name
    (changed.folder / ".git" / "info" / "attributes").write_text(ATTRIBUTES)
    assert read(changed) == expected


def test_a_hunk_with_context_is_read_by_its_signs() -> None:
    diff = ["+++ b/x.yaml", "@@ -1,5 +1,5 @@", "-a: 1", "+a: 2", " b: 2", "", "---- c", "++++ b/other.yaml", " d: 4"]
    more = ["@@ -9 +9 @@", "-e: 5", "\\ No newline at end of file", "+e: 6", "\\ No newline at end of file"]
    assert list(lines_of_diff([*diff, *more])) == [
        AddedLine("x.yaml", 1, "a: 2"),
        AddedLine("x.yaml", 4, "+++ b/other.yaml"),
        AddedLine("x.yaml", 9, "e: 6"),
    ]


def test_a_review_runs_no_hook(changed: Repository, tmp_path: Path) -> None:
    hook, ran = tmp_path / "hooks" / "post-index-change", tmp_path / "ran"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    hook.chmod(0o755)
    changed.commit()
    changed.git("config", "core.hooksPath", str(hook.parent))
    os.utime(changed.folder / "new.yaml", (1, 1))  # git refreshes its index
    read(changed)
    assert not ran.exists()


def test_a_repository_of_another_user_is_refused_with_gits_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remedy = "git config --global --add safe.directory /x"
    said = f"fatal: detected dubious ownership in '/x'\nTo add an exception, call:\n\n\t{remedy}\n"
    refusal = subprocess.CompletedProcess((), 128, b"", said.encode())
    monkeypatch.setattr(git, "_git", lambda *arguments: refusal)
    with pytest.raises(InvalidChoice, match=rf"dubious ownership in '/x' .* call: {remedy}"):
        git.Repository.around(tmp_path)
