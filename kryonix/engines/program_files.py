"""The files that a run executes: the program, what it imports of the project and of this package, and the engine."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Final

_PACKAGE: Final = Path(__file__).parents[1]
_PROGRAM: Final = ("Pulumi.yaml", "__main__.py")
_RUN_BY: Final = (
    "kryonix.tenants.stacks",
    "kryonix.engines.local.stack",
    *(f"kryonix.engines.local.handlers.{package}" for package in ("dynamic", "rabbitmq", "random")),
)
"""Modules that decide what a run does to a tenant, without the program importing them."""
_IMPORT: Final = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|.+)|import[ \t]+(.+))", re.M)
_DATA: Final = ("*.yaml", "sql/*.sql")
_PROVIDERS: Final = "pulumi*.dist-info"
"""The folders of Pulumi's installed packages, named by package and version. Their metadata takes longer to read."""

_Stamp = tuple[tuple[Path, int, int], ...]

_known: dict[Path, tuple[_Stamp, str]] = {}
"""The digest of a project's files, and when each of them was written."""
_lock = Lock()


def program_digest(project: Path) -> str:
    """Return a digest of the files that a run of a project executes, and of the versions of its providers.

    The files are read again only after one of them has changed.
    """
    with _lock:
        found = _known.get(project)
        if found is None or _stamp(path for path, _, _ in found[0]) != found[0]:
            files = program_files(project)
            found = _known[project] = _stamp(files.values()), _digest(files)
    return _hash([found[1], *sorted(_providers())])


def program_files(project: Path) -> dict[str, Path]:
    """Return the files, by the names that they have on every machine."""
    found: dict[str, Path] = {}
    modules = set[str]()
    waiting = [*_RUN_BY]
    for name in _PROGRAM:
        if (project / name).is_file():
            found[name] = project / name
            waiting += _imports(project / name)
    while waiting:
        module = waiting.pop()
        if module not in modules:
            modules.add(module)
            root = _PACKAGE.parent if module.partition(".")[0] == _PACKAGE.name else project
            for path in _files(root, module):
                found[path.relative_to(root).as_posix()] = path
                waiting += _imports(path)
    return found


def _imports(file: Path) -> Iterator[str]:
    """Yield the modules that a file may import: a name imported from a package may be one."""
    if file.suffix != ".py":
        return
    for source, names, modules in _IMPORT.findall(file.read_text(encoding="utf-8")):
        listed = [words[0] for part in re.split(r"[(),]", names or modules) if (words := part.split("#")[0].split())]
        yield from listed if modules else [source, *(f"{source}.{name}" for name in listed)]


def _files(root: Path, module: str) -> Iterator[Path]:
    """Yield the file of a module, and the data beside it; nothing for a module from elsewhere."""
    path = root / module.replace(".", "/")
    for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if file.is_file():
            yield file
            if file.is_relative_to(_PACKAGE):
                for pattern in _DATA:
                    yield from file.parent.glob(pattern)


def _stamp(files: Iterable[Path]) -> _Stamp:
    found = ((path, path.stat()) for path in files if path.is_file())
    return tuple((path, status.st_mtime_ns, status.st_size) for path, status in found)


def _digest(files: Mapping[str, Path]) -> str:
    return _hash(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for name, path in sorted(files.items()))


def _providers() -> set[str]:
    return {folder.name for entry in sys.path for folder in Path(entry).glob(_PROVIDERS)}


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
