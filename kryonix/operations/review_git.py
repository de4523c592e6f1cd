"""What a review reads from git: a revision, files of it, its code, and the lines that were added since."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kryonix.operations.errors import InvalidChoice
from kryonix.review.plain_text import AddedLine, is_read

__all__ = ["Repository", "Revision", "blob_hash"]

_SECONDS = 120
_MOST_BYTES = 2 * 1024 * 1024
_HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository that a folder is in."""

    top: Path

    @classmethod
    def around(cls, folder: Path) -> Repository | None:
        """The repository that a folder is in, or None. Raises InvalidChoice where git can't be run or refuses."""
        done = _git(folder, "rev-parse", "--show-toplevel")
        if done.returncode == 0:
            return cls(Path(done.stdout.decode().rstrip("\n")))
        said = done.stderr.decode(errors="replace")
        if "not a git repository" in said:
            return None
        raise InvalidChoice(f"git can't read the repository around {str(folder)!r}: {_last(said)}")

    def revision(self, name: str) -> Revision:
        """A commit by any name that git knows. Raises InvalidChoice, saying what may help."""
        done = _git(self.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if done.returncode == 0:
            return Revision(self, name, done.stdout.decode().strip())
        message = f"--against {name[:200]!r} is no file, and no revision that this clone knows"
        if _git(self.top, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
            raise InvalidChoice(f"{message}: it is a shallow one. Run `git fetch --unshallow`, or fetch that revision")
        raise InvalidChoice(f"{message}. Run `git fetch`, or name one of `git branch --all` or `git log`")

    def inside(self, file: Path) -> str | None:
        """A file's path from the top, as git writes it; None where the file is elsewhere."""
        resolved = file.parent.resolve() / file.name
        return (
            resolved.relative_to(self.top.resolve()).as_posix() if resolved.is_relative_to(self.top.resolve()) else None
        )


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit."""

    repository: Repository
    name: str
    commit: str

    @property
    def label(self) -> str:
        """The revision as a report names it."""
        short = self.commit[:12]
        return short if self.commit.startswith(self.name) else f"{self.name} ({short})"

    def file(self, path: str) -> bytes | None:
        """A file's content at this revision, or None where it has none."""
        done = self._run("cat-file", "blob", f"{self.commit}:{path}", may_fail=True)
        return done.stdout if done.returncode == 0 else None

    def hashes(self, folder: str) -> dict[str, str]:
        """The hash of every file in a folder, by its path in there."""
        listed = self._run("ls-tree", "-r", "-z", f"{self.commit}:{folder}", may_fail=True)
        if listed.returncode:
            return {}
        entries = (
            entry.split("\t", 1) for entry in listed.stdout.decode(errors="surrogateescape").split("\0") if entry
        )
        return {path: about.split()[2] for about, path in entries}

    def extract(self, into: Path, *paths: str) -> None:
        """Write folders of this revision below another folder."""
        archive = self._run("archive", "--format=tar", self.commit, "--", *paths)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(into, filter="data")

    def added_lines(self) -> Iterator[AddedLine]:
        """The lines of known kinds of files that the working tree has and this revision has not."""
        done = self._run(
            "-c", "core.quotePath=false", "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames",
            "--unified=0", "--src-prefix=a/", "--dst-prefix=b/", "--diff-filter=AMT", self.commit, "--", ".",
        )  # fmt: skip
        yield from _added(done.stdout.decode(errors="replace").split("\n"))
        others = self._run("ls-files", "--others", "--exclude-standard", "-z").stdout.decode(errors="replace")
        for path in filter(None, others.split("\0")):
            file = self.repository.top / path
            if is_read(path) and file.is_file() and not file.is_symlink() and file.stat().st_size <= _MOST_BYTES:
                for number, text in enumerate(file.read_bytes().decode(errors="replace").split("\n"), 1):
                    yield AddedLine(path, number, text)

    def _run(self, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[bytes]:
        done = _git(self.repository.top, *arguments)
        if done.returncode and not may_fail:
            said = _last(done.stderr.decode(errors="replace"))
            raise InvalidChoice(f"git can't read {self.label!r}: {said}. A partial or damaged clone? Run `git fsck`")
        return done


def blob_hash(content: bytes, length: int) -> str:
    """The hash that git gives a file's content, in a repository whose hashes have this many characters."""
    algorithm = hashlib.sha256 if length == 64 else hashlib.sha1
    return algorithm(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _added(lines: list[str]) -> Iterator[AddedLine]:
    """The added lines of a diff without context; its hunks are counted, since content may look like a header."""
    path, at, end = "", 0, len(lines)
    while at < end:
        line = lines[at]
        at += 1
        if line.startswith("+++ "):
            path = _path(line[4:])
        elif hunk := _HUNK.match(line):
            at, number, count = at + int(hunk[1] or 1), int(hunk[2]), int(hunk[3] or 1)
            if lines[at : at + 1] and lines[at].startswith("\\"):
                at += 1  # "No newline at end of file", of the side before
            if is_read(path):
                for offset, text in enumerate(lines[at : at + count]):
                    yield AddedLine(path, number + offset, text[1:])
            at += count


def _path(shown: str) -> str:
    """A path in a diff's header: git quotes one with control characters or quotes in it, and marks one with spaces."""
    shown = shown.rstrip("\t")
    if shown.startswith('"'):
        shown = shown[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return str(PurePosixPath(shown.removeprefix("b/")))


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise InvalidChoice("git is not installed: --against REVISION needs it. Install it, or name a file") from error
    except subprocess.TimeoutExpired as error:
        raise InvalidChoice(f"git did not answer within {_SECONDS} s ({arguments[0]}). Try again") from error


def _last(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1] if lines else "it gave no reason"
