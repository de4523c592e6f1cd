"""The policy pack in its own process, called over its protocol."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no stubs
import yaml
from google.protobuf import empty_pb2  # type: ignore[import-untyped]  # protobuf ships no stubs
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from tests.support.handlers import Recording, previewed
from tests.support.project import ROOT, Project

__all__ = ["Held", "Site", "changed"]

Held = tuple[str, str, str]
"""What a policy reports: its name, the level, and the message."""


class Site:
    """A project in a git repository, its stack, and the pack that looks at it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        shutil.copytree(ROOT / "policy", project.folder / "policy", ignore=shutil.ignore_patterns("__pycache__"))
        self._git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def commit(self) -> None:
        """Commit the current files as the base."""
        self._git("add", *(path.name for path in self.project.folder.glob("*.yaml")))
        self._git(
            "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--allow-empty", "-m", "x"
        )

    def one_tenant(self, entry: dict[str, Any]) -> Site:
        """The same repository, seen from the stack of one tenant."""
        other = object.__new__(Site)
        other.project = self.project.beside(f"tenant-{entry['id']}", tenant=entry)
        return other

    def accept(self, *entries: dict[str, str]) -> None:
        self.project.write("accepted-changes.yaml", yaml.safe_dump({"accepted": list(entries)}))

    def registrations(self) -> list[Recording]:
        return previewed(self.project)

    def held(self, recordings: Iterable[Recording], against: str | None = "HEAD") -> list[Held]:
        """Return the pack's findings for a new stack, with unknown outputs."""
        recordings = list(recordings)
        with self._pack(against) as pack:
            for recording in recordings:
                pack.Remediate(recording.request())
                pack.Analyze(recording.request())
            return _held(pack.AnalyzeStack(_stack(recording.entry(early=True) for recording in recordings)))

    def held_outputs(self, recordings: Iterable[Recording], against: str | None = "HEAD") -> list[Held]:
        """Return the pack's findings for an existing stack, stack policies only."""
        with self._pack(against) as pack:
            return _held(pack.AnalyzeStack(_stack(recording.entry() for recording in recordings)))

    def held_inputs(self, recordings: Iterable[Recording]) -> list[Held]:
        """Return the pack's findings for each resource's inputs, remediation first, as the engine asks."""
        found: list[Held] = []
        with self._pack(None) as pack:
            for recording in recordings:
                remedied = pack.Remediate(recording.request())
                assert not remedied.remediations
                found += _held(pack.Analyze(recording.request()))
        return found

    def policies(self) -> dict[str, Any]:
        """Every policy's level."""
        with self._pack(None) as pack:
            info = pack.GetAnalyzerInfo(empty_pb2.Empty())
        return {policy.name: _level(policy.enforcementLevel) for policy in info.policies}

    @contextmanager
    def _pack(self, against: str | None) -> Iterator[analyzer_pb2_grpc.AnalyzerStub]:
        env = {key: value for key, value in os.environ.items() if key != "KRYONIX_AGAINST"}
        env |= {"PULUMI_PROJECT": "kryonix", "PULUMI_STACK": self.project.stack, "PULUMI_DRY_RUN": "true"}
        env |= {"PULUMI_CONFIG": json.dumps(self._config()), **({"KRYONIX_AGAINST": against} if against else {})}
        process = subprocess.Popen(
            [sys.executable, "-u", "__main__.py"],
            cwd=self.project.folder / "policy",
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield analyzer_pb2_grpc.AnalyzerStub(channel)
        finally:
            process.kill()
            process.wait()

    def _config(self) -> dict[str, str]:
        project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
        config = {f"kryonix:{key}": about["default"] for key, about in project.items()}
        config |= yaml.safe_load(self.project.config_file.read_text())["config"]
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", str(self.project.folder), *arguments], check=True)


def _stack(entries: Iterable[analyzer_pb2.AnalyzerResource]) -> analyzer_pb2.AnalyzeStackRequest:
    return analyzer_pb2.AnalyzeStackRequest(resources=entries)


def _held(response: Any) -> list[Held]:
    return [(d.policyName, _level(d.enforcementLevel), d.message) for d in response.diagnostics]


def _level(number: int) -> str:
    return str(analyzer_pb2.EnforcementLevel.Name(number)).lower()


def changed(recording: Recording, **outputs: Any) -> Recording:
    """The same registration with other properties, as another program would make it."""
    return Recording(
        dataclasses.replace(recording.goal, inputs={**recording.goal.inputs, **outputs}),
        dataclasses.replace(recording.resource, outputs={**recording.resource.outputs, **outputs}),
    )
