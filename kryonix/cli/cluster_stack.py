"""A platform's stack whose broker has several nodes, or shall have: its config, its runs, its broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import yaml

from kryonix.cli import site
from kryonix.cli.options import StackOptions, read_bytes
from kryonix.cli.output.console import err
from kryonix.cli.output.progress import RunProgress
from kryonix.cluster.errors import ClusterNotReady
from kryonix.cluster.nodes import RecordedNode, allowed_to_change
from kryonix.engines.containers import platform_of
from kryonix.engines.engine import Engine, StackSpec
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import Summary
from kryonix.engines.lock import Locked, exclusive
from kryonix.engines.stack_config import set_value, with_value
from kryonix.errors import InvalidChoice
from kryonix.rabbitmq.broker import Broker

_CONNECT_S: Final = 3
_NEEDS_ROLL: Final = "cluster-needs-roll"
"""The kind of failure with which the program refuses a change of several nodes at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStack:
    """A platform's stack as its last run left it, and the settings to run it with, which its file may not have yet."""

    target: StackOptions
    engine: Engine
    spec: StackSpec
    deployment: Mapping[str, Any] = field(repr=False)
    outputs: Mapping[str, Any] = field(repr=False)
    file: Path
    settings: Mapping[str, str | int] = field(default_factory=dict)

    @classmethod
    def of(cls, target: StackOptions) -> Self:
        """Return the stack. Raises InvalidChoice if it is not a platform's, or if nothing is deployed."""
        spec, engine = site.spec_of(target), site.engine_of(target)
        outputs, deployment = engine.outputs(spec), site.deployment_of(target)
        if not outputs:
            raise site.nothing_deployed(target, "has no outputs: nothing is deployed")
        if (platform := platform_of(deployment)) is not None:
            remedy = f"Give the platform's: --stack {platform}"
            raise InvalidChoice(f"stack {target.stack!r} is a tenant's, not a platform's. {remedy}")
        file = spec.config_file or site.config_file(spec.name)
        return cls(
            target=target,
            engine=engine,
            spec=spec,
            deployment=deployment,
            outputs=outputs,
            file=file,
        )

    @classmethod
    @contextmanager
    def alone(cls, target: StackOptions) -> Iterator[Self]:
        """Yield the stack, while no other operation on its cluster runs on this machine.

        An engine locks a stack for one run, and an operation has several. Raises ClusterNotReady.
        """
        stack = cls.of(target)
        name = stack.spec.name.rpartition("/")[2]
        with ExitStack() as held:
            try:
                held.enter_context(exclusive(site.project_folder() / ".kryonix" / "cluster" / f"{name}.lock"))
            except Locked as holder:
                raise ClusterNotReady(
                    f"the nodes of the stack {name!r} are in use by {holder}\nWait for it to end, or stop it: the same "
                    "command continues what it began. Nothing has been changed"
                ) from holder
            except OSError as error:
                problem = f"{error.filename} can't be written ({error.strerror})"
                raise ClusterNotReady(f"{problem}. Run as the user to whom it belongs, or make room for it") from error
            yield stack.read_again()

    @property
    def nodes(self) -> list[RecordedNode]:
        return RecordedNode.of(self.outputs)

    def read_again(self) -> Self:
        """Return the stack as it is now."""
        return type(self).of(self.target)

    def with_settings(self, settings: Mapping[str, str | int]) -> Self:
        """Return the stack with other settings."""
        return replace(self, settings=settings)

    @property
    def config(self) -> bytes:
        """Return the content of the config file with the settings. Raises InvalidChoice, and InvalidInput."""
        content = read_bytes(self.file) if self.file.is_file() else b""
        for key, value in self.settings.items():
            content = with_value(content, self.file.name, key, value)
        return content

    def setting(self, key: str) -> Any:
        """Return a setting as a run would have it: the stack's, or the project's default."""
        value: Any = None
        for content in (read_bytes(site.project_folder() / "Pulumi.yaml"), self.config):
            config = (yaml.safe_load(content) or {}).get("config") or {}
            found = config.get(key, config.get(key.partition(":")[2], value))
            value = found.get("default", value) if isinstance(found, dict) else found
        return value

    def write_config(self) -> None:
        """Write the settings into the stack's config file."""
        for key, value in self.settings.items():
            set_value(self.file, key, value)

    def preview(self, allowed: str) -> Summary:
        """Return what a run with the settings would change. `allowed` are the nodes that may change."""
        return self._run("preview", allowed)

    def up(self, allowed: str) -> Summary:
        """Apply the settings. `allowed` are the nodes that may change."""
        return self._run("up", allowed)

    def _run(self, operation: str, allowed: str) -> Summary:
        outage = site.Outage(self.target)
        run: Callable[..., Summary] = getattr(self.engine, operation)
        with (
            allowed_to_change(allowed),
            _copied(self.config, self.spec.name) as file,
            outage.explained(),
            RunProgress(err, f"{operation} {self.spec.name}").running() as progress,
        ):
            return run(replace(self.spec, config_file=file), progress.on_event)

    def needs_roll(self) -> bool:
        """Return True if `up` would refuse a change of nodes."""
        try:
            self.preview("")
        except EngineFailed as error:
            if error.kind == _NEEDS_ROLL:
                return True
            raise
        return False

    @contextmanager
    def broker(self) -> Iterator[Broker]:
        """Yield the broker, any of whose nodes answers, at its addresses now. An error names a stopped container."""
        outputs = self.engine.outputs(self.spec)
        with site.Outage(self.target).explained(), Broker.of(outputs, connect_s=_CONNECT_S) as broker:
            yield broker


@contextmanager
def _copied(config: bytes, stack: str) -> Iterator[Path]:
    """Yield a config file with this content."""
    with TemporaryDirectory(prefix="kryonix-config-") as folder:
        file = Path(folder, f"Pulumi.{stack.rpartition('/')[2]}.yaml")
        file.write_bytes(config)
        yield file
