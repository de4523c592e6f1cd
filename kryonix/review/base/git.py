"""Read a revision's files and folders, and the changes since, from git."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kryonix.errors import InvalidChoice
from kryonix.review.plain_text import AddedLine, added_since, is_read, lines_of_diff

_SECONDS: Final = 120
_MOST_BYTES: Final = 2 * 1024 * 1024  # of an untracked file: larger ones are dumps or builds
_EARLIER: Final = 20  # commits tried before an unreadable base
_PINNED: Final = (
    "color.ui=false",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.quotePath=false",
    "diff.interHunkContext=0",
    "diff.relative=false",
    "diff.renames=false",
    "diff.submodule=short",
)
"""Settings of git's output, so that the user's don't apply. The rest are: safe.directory, for one, must."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository."""

    top: Path

    @classmethod
    def around(cls, folder: Path) -> Repository | None:
        """Return the repository around a folder, or None. Raises InvalidChoice if git can't be run or refuses."""
        done = _git(folder, "rev-parse", "--show-toplevel")
        if done.returncode == 0:
            return cls(Path(os.fsdecode(done.stdout).rstrip("\n")))
        output = done.stderr.decode(errors="replace")
        if "not a git repository" in output:
            return None
        raise InvalidChoice(f"git can't read the repository around {str(folder)!r}: {_reason(output)}")

    def revision(self, name: str) -> Revision:
        """Return a commit by any name known to git. Raises InvalidChoice with a remedy."""
        if (commit := self._answer("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")) != "":
            return Revision(self, name, commit)
        message = f"--against {name[:200]!r} is neither a file nor a revision in this clone"
        if self.is_shallow:
            raise InvalidChoice(f"{message}, which is shallow. Run `git fetch --unshallow`, or fetch that revision")
        raise InvalidChoice(f"{message}. Run `git fetch`, or choose one from `git branch --all` or `git log`")

    @property
    def is_shallow(self) -> bool:
        """Return True if a part of the history is missing."""
        return self._answer("rev-parse", "--is-shallow-repository") == "true"

    def relative_path(self, file: Path) -> str | None:
        """Return a file's path from the top, as git writes it, or None if it is outside."""
        resolved, top = file.parent.resolve() / file.name, self.top.resolve()
        return resolved.relative_to(top).as_posix() if resolved.is_relative_to(top) else None

    def _answer(self, *arguments: str) -> str:
        """Return git's answer of one line, empty if it refuses."""
        done = _git(self.top, *arguments)
        return done.stdout.decode().strip() if done.returncode == 0 else ""


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit."""

    repository: Repository
    name: str
    commit: str

    @property
    def label(self) -> str:
        """Return the revision's name in a report."""
        short = self.commit[:12]
        return short if self.commit.startswith(self.name) else f"{self.name} ({short})"

    def forked(self) -> tuple[Revision, str | None]:
        """Return the merge base with the present work, as for a pull request, and a note for the reader."""
        base = self.repository._answer("merge-base", self.commit, "HEAD")
        if base == self.commit:
            return self, None
        if not base:
            return self, f"'{self.name}' and HEAD have no common commit in this clone"
        ahead = self.repository._answer("rev-list", "--count", f"{base}..{self.commit}")
        if base == self.repository._answer("rev-parse", "HEAD"):
            return self, f"'{self.name}' is ahead by {ahead} commit(s): they are shown as undone"
        note = f"'{self.name}' has {ahead} newer commit(s): compared with the merge base {base[:12]}"
        return replace(self, commit=base), note

    def earlier(self, *paths: str) -> Iterator[Revision]:
        """Yield the latest earlier revisions with changes of these paths, newest first."""
        listed = self.repository._answer("rev-list", f"--max-count={_EARLIER}", f"{self.commit}~", "--", *paths)
        for commit in listed.split():
            yield Revision(self.repository, commit, commit)

    def file(self, path: str) -> bytes | None:
        """Return a file's content at this revision, or None."""
        done = _git(self.repository.top, "cat-file", "blob", f"{self.commit}:{path}")
        return done.stdout if done.returncode == 0 else None

    def extract(self, into: Path, *paths: str) -> None:
        """Write folders of this revision below another one. Raises tarfile.TarError for a link: it may lead outside."""
        archive = self._run("archive", "--format=tar", self.commit, "--", *paths)
        # Not extractall(filter="data"): Debian 12's Python 3.11.2 is older than that.
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                if member.isdir():
                    continue
                content = tar.extractfile(member) if member.isfile() else None
                if content is None:
                    raise tarfile.ExtractError(f"{member.name} is a link")
                path = into / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())

    def changed(self, *patterns: str) -> list[str]:
        """Return the changed paths in the working tree that match git's patterns."""
        return self._paths("diff", "--name-only", "-z", self.commit, "--", *patterns)

    def untracked(self, *patterns: str) -> list[str]:
        """Return the untracked paths in the working tree, without ignored ones, that match git's patterns."""
        return self._paths("ls-files", "--others", "--exclude-standard", "-z", "--", *patterns)

    def _paths(self, *arguments: str) -> list[str]:
        return [path for path in os.fsdecode(self._run(*arguments)).split("\0") if path]

    def added_lines(self) -> Iterator[AddedLine]:
        """Yield the lines added in the working tree since this revision, in files of known kinds."""
        diff = self._run(
            # As text, whatever attributes say: one line of them would hide a file's changes.
            *("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--unified=0", "--text"),
            *("--src-prefix=a/", "--dst-prefix=b/", "--diff-filter=AMT", self.commit, "--", "."),
        )
        yield from lines_of_diff(diff.decode(errors="replace").split("\n"))
        for path in self.untracked():
            file = self.repository.top / path
            if is_read(path) and file.is_file() and not file.is_symlink() and file.stat().st_size <= _MOST_BYTES:
                yield from added_since(b"", file.read_bytes(), path, untracked=True)

    def _run(self, *arguments: str) -> bytes:
        """Return git's output. Raises InvalidChoice if it refuses."""
        done = _git(self.repository.top, *arguments)
        if done.returncode:
            output = _reason(done.stderr.decode(errors="replace"))
            raise InvalidChoice(f"git can't read {self.label!r}: {output}. A partial or damaged clone? Run `git fsck`")
        return done.stdout


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    # A hook sets GIT_DIR and the like for the repository it belongs to; messages are read in English.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(  # noqa: S603  a list of arguments, and what users name follows `--` or is verified
            ["git", *(word for each in _PINNED for word in ("-c", each)), "-C", str(folder), *arguments],  # noqa: S607  the git that the user has on PATH
            env={**kept, "LC_ALL": "C"},
            capture_output=True,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError as error:
        raise InvalidChoice("git is not installed; --against REVISION needs it. Install it, or name a file") from error
    except subprocess.TimeoutExpired as error:
        raise InvalidChoice(f"git {arguments[0]} took more than {_SECONDS} s. Try again") from error


def _reason(output: str) -> str:
    """Return git's words in one line: what is wrong comes first, the remedy may be the last of several."""
    return " ".join(output.removeprefix("fatal: ").split())[:500] or "it gave no reason"
