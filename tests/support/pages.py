"""The examples of the documentation's pages: fenced blocks, their commands, and the test that runs each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.project import ROOT

UNIT: Final = "tests/unit/test_examples.py"
PAGES: Final = "tests/acceptance/test_pages.py"
MESSAGING: Final = "tests/integration/messaging/test_docs.py"
_BACKUP: Final = "tests/acceptance/test_backup.py"
_FLEET: Final = "tests/acceptance/test_fleet.py"
_LIFE: Final = "tests/acceptance/test_tenant_lifecycle.py"
_CERTIFICATES: Final = "tests/integration/certificates/test_commands.py"
_ROUTER: Final = "tests/acceptance/test_router.py"
_SIGNUP: Final = "tests/support/signup_service.py"

RUN_BY: Final = {
    "plan": UNIT,
    "plan --against": UNIT,
    "schema": UNIT,
    "router show": UNIT,
    "router decide": UNIT,
    "router train": _ROUTER,
    "router evaluate": _ROUTER,
    "router enable": _ROUTER,
    "router status": _ROUTER,
    "router access": _ROUTER,
    "preview": "tests/acceptance/test_guard.py",
    "up": "tests/acceptance/test_guard.py",
    "destroy": "tests/acceptance/test_guard.py",
    "refresh": "tests/acceptance/test_repair.py",
    "check": "tests/acceptance/test_check.py",
    "status": PAGES,
    "outputs": "tests/acceptance/test_outputs.py",
    "export": PAGES,
    "cluster status": PAGES,
    "cluster roll": "tests/acceptance/test_cluster_nodes.py",
    "cluster grow": "tests/acceptance/test_cluster_nodes.py",
    "certificates list": _CERTIFICATES,
    "certificates check": _CERTIFICATES,
    "certificates renew": _CERTIFICATES,
    "certificates ca print": _CERTIFICATES,
    "top": "tests/acceptance/test_exporter.py",
    "exporter": "tests/acceptance/test_exporter.py",
    "tenant list": PAGES,
    "tenant show": PAGES,
    "tenant credentials": PAGES,
    "tenant create": _LIFE,
    "tenant change": _LIFE,
    "tenant change --dry-run": _LIFE,
    "tenant adopt": "tests/acceptance/test_adoption.py",
    "tenant adopt --dry-run": "tests/acceptance/test_adoption.py",
    "tenant suspend": _LIFE,
    "tenant resume": _LIFE,
    "tenant rotate": _LIFE,
    "tenant offboard": _LIFE,
    "tenant exports": _LIFE,
    "tenant remove": _LIFE,
    "tenant converge": _LIFE,
    "tenant settle": _LIFE,
    "fleet status": PAGES,
    "fleet place": PAGES,
    "fleet drift": _FLEET,
    "fleet rollout": _FLEET,
    "backup keygen": _BACKUP,
    "backup create": _BACKUP,
    "backup list": _BACKUP,
    "backup verify": _BACKUP,
    "backup restore": _BACKUP,
    "backup prune": _BACKUP,
    "signup keys create": _SIGNUP,
    "signup serve": _SIGNUP,
    "signup serve --prometheus": "tests/acceptance/signup/test_signup_description.py",
    "signup worker": _SIGNUP,
    "send": PAGES,
    "consume": PAGES,
    "stats": PAGES,
    "stats --watch": "tests/acceptance/test_messaging_commands.py",
    "dead-letters list": PAGES,
    "dead-letters show": PAGES,
    "dead-letters export": PAGES,
    "dead-letters discard": PAGES,
    "redrive": PAGES,
    "unrouted": PAGES,
    "worker": "tests/acceptance/test_worker.py",
    "worker --keda": PAGES,
}
"""The test that runs a command of the pages. A key with an option is a case of its own."""

NOT_RUN: Final = {
    "scripts/demo": "needs the default ports, and pulls images: tests/acceptance run its `up`, `status` and `destroy`",
    "scripts/setup": "every job of CI begins with it",
    "scripts/check": "a job of CI",
    "scripts/test": "a job of CI",
    "scripts/node": "scripts/check and scripts/test run it",
    "scripts/drill": "tests/acceptance/test_drill.py runs it with two tenants",
    "scripts/images": "tests/acceptance/test_images.py, with a registry of its own",
    "export": "sets variables of the reader's shell",
    "opentelemetry-instrument": "tests/unit/messaging/test_tracing.py configures an OpenTelemetry SDK",
    "pip": "tests/integration/messaging/test_install.py installs the wheel",
    "python": "tests/unit/messaging/test_public_surface.py compares what it writes",
    "python3": "tests/integration/messaging/test_install.py makes such an environment",
    "../shop/bin/pip": "tests/integration/messaging/test_install.py installs the wheel",
    "curl": "tests/acceptance/signup/test_signup_service.py sends these requests",
    "npm": "sdk/typescript/test/package packs and installs the package",
    "pulumi": "tests/acceptance/test_pulumi_cli.py, if the CLI is on PATH",
    "kubectl": "needs a cluster",
    "age": "tests/integration/backup/test_programs.py runs these pipelines",
    "docker": "reads the reader's containers and registries",
}
"""Programs of the pages that no test runs as written, and why."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command in a block, without variables, redirections and comments."""

    block: Block
    words: tuple[str, ...]

    @property
    def case(self) -> str | None:
        """The most specific key of RUN_BY; None for another program, or for a command that no test runs."""
        if self.words[0] != "kryonix":
            return None
        cases = [key for key in RUN_BY if self._is(key.split())]
        return max(cases, key=len, default=None)

    def _is(self, key: list[str]) -> bool:
        names, options = [w for w in key if w[0] != "-"], {w for w in key if w[0] == "-"}
        return [*self.words[1 : len(names) + 1]] == names and options <= set(self.words)


def blocks() -> list[Block]:
    """Return every fenced block of the pages."""
    found = []
    for page in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
            name, line = page.relative_to(ROOT).as_posix(), text[: match.start()].count("\n") + 1
            found.append(Block(name, line, match[2], match[3]))
    return found


def commands() -> list[Command]:
    """Return every command of the pages' blocks for a shell."""
    return [command for block in blocks() if block.language in ("sh", "console") for command in _commands(block)]


def _commands(block: Block) -> Iterator[Command]:
    for line in block.text.replace("\\\n", " ").splitlines():
        for part in line.removeprefix("$ ").split(" && "):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            for redirection in ("<", ">"):
                if redirection in words:
                    del words[words.index(redirection) :]
            if words:
                yield Command(block, tuple(words))


def content(file: str) -> str:
    return Path(ROOT, file).read_text(encoding="utf-8")
