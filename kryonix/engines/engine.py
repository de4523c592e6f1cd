"""Engine: what runs the project's program for a stack."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kryonix.certificates.trust import trust_file
from kryonix.engines.deployments import Change, Deployment
from kryonix.engines.events import Event, OnEvent, Summary


def trusted(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stack's outputs, after writing the CA among them to the file that libpq reads. Raises InvalidChoice."""
    if ca := outputs.get("ca_certificate"):
        trust_file(str(ca))
    return dict(outputs)


def ignore(event: Event) -> None:
    """Ignore an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSpec:
    """A stack and its config.

    Either `config` is the whole config (full keys such as `kryonix:tenant`, plain values, no secrets), or the project
    has a config file: `config_file`, default `Pulumi.NAME.yaml`.
    """

    name: str
    config: Mapping[str, Any] | None = None
    config_file: Path | None = None


class Engine(Protocol):
    """Runs the project's program for its stacks. Thread-safe: operations beyond the concurrency wait.

    Operations on a spec with `config` have a workspace of their own, with links to the program; the state is the
    project's. Errors have a message for a person and an `exit_status`: 2 input, 3 a service, else 1.
    """

    def preview(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        """Return what `up` would do. Changes nothing."""

    def up(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        """Create, update and delete resources until they match the program."""

    def refresh(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        """Read the resources into the state. Every step but `same` is drift, which the next `up` repairs."""

    def destroy(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        """Remove everything that the stack has made. Accepts a stack that has nothing."""

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        """Return the stack's outputs, empty if nothing is deployed. Hidden secrets read `[secret]`.

        Write the file of the platform's CA, which the `registry_dsn` among them names.
        """

    def export(self, stack: StackSpec, *, show_secrets: bool = False) -> dict[str, Any]:
        """Return the deployment as `pulumi stack import` takes it, secrets encrypted; empty for an unknown stack."""

    def rewrite(self, stack: StackSpec, change: Change) -> None:
        """Replace the stack's deployment by `change` of it, with secrets in plain text. Touch no resource.

        The secrets are encrypted with the stack's own secrets provider. Makes a stack that does not exist.
        """

    def restore(self, stack: StackSpec, deployment: Deployment) -> None:
        """Replace the stack's deployment by an exported one, its secrets still encrypted. Touch no resource.

        The secrets keep their provider; with another passphrase nothing changes. Makes a stack that does not exist.
        """

    def stacks(self) -> list[str]:
        """Return the names of the stacks that have resources, sorted."""

    def marks(self, names: Collection[str]) -> dict[str, str]:
        """Return a mark of the state of each of these stacks: every change of the state gives it another one.

        Stacks without a state, or with an unfinished run, are left out.
        """

    def program_digest(self) -> str:
        """Return a digest of the project's program, of what runs it, and of its providers' versions."""
