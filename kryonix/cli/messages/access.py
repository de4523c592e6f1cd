"""Who a command acts as: one tenant's address and plan, from where passwords are not seen by others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kryonix.cli.messages.acting import Asked
from kryonix.errors import InvalidChoice
from kryonix.messaging.configuration import MANAGEMENT_VARIABLE, OUTPUTS_VARIABLE, URI_VARIABLE, Address, parse_uri
from kryonix.messaging.credentials_file import WRITE_IT, read_outputs
from kryonix.topology.errors import nearest

__all__ = ["Access", "find_access", "stack_outputs"]


@dataclass(frozen=True, slots=True)
class Access:
    """A tenant's address, and what is known of what it has bought. An AMQP URI alone says neither plan nor modules."""

    address: Address
    plan: str | None = None
    modules: tuple[str, ...] | None = None


def find_access(asked: Asked) -> Access:
    """The address asked for: what the command line says, else the environment's URI, else its file. Raises
    InvalidChoice, and ConfigurationError for a URI or a file that can't be read."""
    if asked.outputs is not None and asked.stack is not None:
        raise InvalidChoice("--outputs and --stack are both given. Give one of them")
    if asked.outputs is not None:
        return _of_tenant(read_outputs(asked.outputs, private=True), asked, str(asked.outputs))
    if asked.stack is not None:
        return _of_tenant(stack_outputs(asked.stack), asked, f"the stack {asked.stack!r}")
    if (file := os.environ.get(OUTPUTS_VARIABLE)) and not os.environ.get(URI_VARIABLE):
        return _of_tenant(read_outputs(Path(file), private=True), asked, file)
    return _of_environment(asked)


def _of_environment(asked: Asked) -> Access:
    uri = os.environ.get(URI_VARIABLE)
    if not uri:
        raise InvalidChoice(
            f"no address of a broker. Set {URI_VARIABLE}, or give --outputs FILE "
            f"(written by {WRITE_IT}), or --stack STACK"
        )
    address = parse_uri(uri, asked.management_url or os.environ.get(MANAGEMENT_VARIABLE))
    if asked.tenant not in (None, address.tenant_id):
        problem = f"--tenant {asked.tenant!r} is not the tenant of {URI_VARIABLE}, which is {address.tenant_id!r}"
        raise InvalidChoice(f"{problem}. Make them the same, or leave --tenant out")
    return Access(address)


def stack_outputs(stack: str) -> Any:
    """Return a stack's outputs with the secrets in them. Raises InvalidChoice outside of a project's folder."""
    from kryonix.engines.address import StackAddress  # with them comes the local engine, for this one choice only
    from kryonix.engines.engine import engine_for

    project = Path.cwd()
    if not (project / "Pulumi.yaml").is_file():
        raise InvalidChoice(f"{project} has no Pulumi.yaml. Run this in the project's folder, or give --outputs")
    engine = engine_for("auto", StackAddress(project=project, stack=stack), lambda event: None)
    return engine.outputs(show_secrets=True)


def _of_tenant(outputs: Any, asked: Asked, source: str) -> Access:
    tenants = outputs.get("tenants") if isinstance(outputs, Mapping) else None
    if not isinstance(tenants, Mapping) or not tenants:
        raise InvalidChoice(f"{source} has no tenants. Run `kryonix up` first")
    name = asked.tenant if asked.tenant is not None or len(tenants) > 1 else next(iter(tenants))
    if name is None:
        raise InvalidChoice(f"{source} has {len(tenants)} tenants. Say which with --tenant")
    if name not in tenants:
        raise InvalidChoice(f"--tenant {name!r} is not in {source}; {nearest(name, tenants)}")
    tenant = tenants[name]
    uri = tenant.get("amqp_uri") if isinstance(tenant, Mapping) else None
    if not isinstance(uri, str) or not uri.startswith("amqp"):
        raise InvalidChoice(f"{source} was written without secrets. Write it with {WRITE_IT}")
    management = asked.management_url or outputs.get("management_url")
    plan, modules = tenant.get("plan"), tenant.get("modules")
    if not isinstance(plan, str | None) or not (modules is None or _is_texts(modules)):
        raise InvalidChoice(f"{source} says of {name!r} a plan or modules that are none. Run `kryonix outputs` again")
    return Access(parse_uri(uri, management), plan, None if modules is None else tuple(modules))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
