"""The engine's side of Pulumi's protocol, in process, as the SDK's stubs call it.

Method names are the protocol's. Unsupported requests are refused by name, never ignored.
"""

from __future__ import annotations

import re
from dataclasses import replace
from threading import Lock
from typing import Any, Final, NoReturn

from google.protobuf import empty_pb2  # type: ignore[import-untyped]  # protobuf ships no stubs
from google.protobuf.message import Message  # type: ignore[import-untyped]
from pulumi.runtime.proto import engine_pb2, resource_pb2

from kryonix.engines.local import values
from kryonix.engines.local.errors import UnsupportedFeature
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.registrar import Registrar
from kryonix.engines.local.resource import STACK_TYPE, Resource
from kryonix.engines.local.run import Run
from kryonix.engines.local.stack_reference import (
    READ_RESOURCE_OUTPUTS,
    READ_STACK_OUTPUTS,
    STACK_REFERENCE_TYPE,
    StackReferences,
)

FEATURES: Final = [resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS, resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH]
EMPTY: Final = empty_pb2.Empty()
_FIELDS: Final = (
    "type name parent custom object protect dependencies provider propertyDependencies deleteBeforeReplace version "
    "ignoreChanges additionalSecretOutputs aliasURNs deleteBeforeReplaceDefined deletedWith "
    # What the SDK can do, its place in the program, and a component's providers, which it hands to the children:
    "acceptSecrets acceptResources accepts_byte_string supportsPartialValues supportsResultReporting aliasSpecs "
    "providers sourcePosition stackTrace parentStackTraceHandle snippetId hideDiffs"
)
_ACCEPTED: Final = frozenset(_FIELDS.split())


class Monitor:
    """Answer the program's registrations, and receive its messages."""

    def __init__(self, run: Run, registrar: Registrar, references: StackReferences) -> None:
        self._run = run
        self._registrar = registrar
        self._references = references
        self._lock = Lock()
        self._registered: dict[str, Resource] = {}
        self.outputs: Properties = {}
        self.stack_urn = ""

    def GetDeploymentInfo(self, request: empty_pb2.Empty) -> resource_pb2.DeploymentInfo:
        """Return the engine's features; the SDK sends its requests accordingly."""
        return resource_pb2.DeploymentInfo(
            project=self._run.project.name,
            stack=self._run.stack,
            organization="organization",
            dryRun=self._run.dry_run,
            parallel=self._run.parallel,
            supportedFeatures=FEATURES,
        )

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> resource_pb2.RegisterResourceResponse:
        """Bring one resource to what the program wants."""
        with self._run.failing():
            self._run.check()
            defined = request.deleteBeforeReplaceDefined or request.deleteBeforeReplace
            old_first = request.deleteBeforeReplace if defined else None
            wanted = self._wanted(request)
            resource = self._registrar.register(wanted, request.version, request.aliasURNs, old_first)
            with self._lock:
                self._registered[resource.urn] = resource
            if resource.type == STACK_TYPE:
                self.stack_urn = resource.urn
        known = not self._run.dry_run or resource.id != values.UNKNOWN_TEXT
        return resource_pb2.RegisterResourceResponse(
            urn=resource.urn,
            id=resource.id if known else "",
            object=values.to_struct(resource.outputs if resource.custom else {}),
        )

    def RegisterResourceOutputs(self, request: resource_pb2.RegisterResourceOutputsRequest) -> empty_pb2.Empty:
        """Record a component's outputs; the stack's own are recorded after the program has succeeded."""
        with self._run.failing():
            outputs = values.from_struct(request.outputs)
            if request.urn == self.stack_urn:
                self.outputs = outputs
            else:
                self._set_outputs(request.urn, outputs)
        return EMPTY

    def ReadResource(self, request: resource_pb2.ReadResourceRequest) -> resource_pb2.ReadResourceResponse:
        """Read a StackReference; any other resource is refused."""
        with self._run.failing():
            self._run.check()
            if request.type != STACK_REFERENCE_TYPE:
                raise UnsupportedFeature.of(f"an existing resource of type {request.type} ('{request.name}')")
            inputs = values.from_struct(request.properties)
            outputs = self._references.read(str(values.plain(inputs.get("name", request.id))))
            draft = replace(self._draft(request, inputs), id=request.id, outputs=outputs, external=True)
            resource = self._registrar.read(draft)
            self._run.step(resource, "read")
            self._run.report(resource, "read")
        return resource_pb2.ReadResourceResponse(
            urn=resource.urn, id=resource.id, properties=values.to_struct(resource.outputs)
        )

    def Invoke(self, request: resource_pb2.ResourceInvokeRequest) -> resource_pb2.ResourceInvokeResponse:
        """Call one of the engine's own functions: read the outputs of a stack or of its resources."""
        given = values.plain(values.from_struct(request.args))
        if request.tok == READ_STACK_OUTPUTS:
            answer = self._references.read(str(given["name"]))
        elif request.tok == READ_RESOURCE_OUTPUTS:
            answer = self._references.read_resources(str(given["stackName"]))
        else:
            self._refuse(f"the function {request.tok}")
        return resource_pb2.ResourceInvokeResponse(**{"return": values.to_struct(answer)})

    def SignalAndWaitForShutdown(self, request: empty_pb2.Empty) -> empty_pb2.Empty:
        """Let the program end: there are no delete hooks to wait for."""
        return EMPTY

    def Log(self, request: engine_pb2.LogRequest) -> empty_pb2.Empty:
        """Report a message of the program or the SDK; drop the thousands of debug messages unread."""
        if request.severity != engine_pb2.DEBUG:
            severity: Any = engine_pb2.LogSeverity.Name(request.severity).lower()
            self._run.say(severity, request.message, request.urn)
        return EMPTY

    def GetRootResource(self, request: Any) -> engine_pb2.GetRootResourceResponse:
        """Return the stack resource's URN."""
        return engine_pb2.GetRootResourceResponse(urn=self.stack_urn)

    def SetRootResource(self, request: Any) -> engine_pb2.SetRootResourceResponse:
        """Do nothing: the stack resource is known from its registration."""
        return engine_pb2.SetRootResourceResponse()

    def __getattr__(self, name: str) -> Any:
        """Return a method that refuses any other request of the protocol."""
        if not name[:1].isupper():
            raise AttributeError(name)
        return lambda request: self._refuse(f"the request {name}")

    def commit_outputs(self) -> None:
        """Record the stack's outputs, after the program has succeeded."""
        self._set_outputs(self.stack_urn, self.outputs)

    def _wanted(self, request: resource_pb2.RegisterResourceRequest) -> Resource:
        """Return a request, read and checked; children inherit `deleted_with` and `protect`."""
        for descriptor, value in request.ListFields():
            empty = isinstance(value, Message) and not value.ByteSize()
            if descriptor.name not in _ACCEPTED and not empty:
                option = re.sub("([A-Z])", r"_\1", descriptor.name).lower()
                raise UnsupportedFeature.of(option, f"{request.type} '{request.name}'")
        if set(request.ignoreChanges) - {"*"}:
            raise UnsupportedFeature.of("ignore_changes other than ['*']", f"{request.type} '{request.name}'")
        with self._lock:
            parent = self._registered.get(request.parent)
        deps = {key: tuple(sorted(set(value.urns))) for key, value in sorted(request.propertyDependencies.items())}
        return replace(
            self._draft(request, values.from_struct(request.object)),
            custom=request.custom,
            property_dependencies={key: urns for key, urns in deps.items() if urns},
            deleted_with=request.deletedWith or (parent.deleted_with if parent else ""),
            protect=request.protect if request.HasField("protect") else bool(parent and parent.protect),
            ignore_changes=tuple(request.ignoreChanges),
        )

    def _draft(
        self, request: resource_pb2.RegisterResourceRequest | resource_pb2.ReadResourceRequest, inputs: Properties
    ) -> Resource:
        """Return the parts that a resource to read and one to register have in common."""
        return Resource(
            urn=self._run.urn(request.parent, request.type, request.name),
            type=request.type,
            custom=True,
            inputs=inputs,
            parent=request.parent,
            provider=request.provider,
            dependencies=tuple(sorted(set(request.dependencies))),
            additional_secret_outputs=tuple(request.additionalSecretOutputs),
        )

    def _set_outputs(self, urn: str, outputs: Properties) -> None:
        resource = self._run.ledger.get(urn)
        if resource is not None:
            self._run.ledger.keep(replace(resource, outputs=outputs))

    def _refuse(self, feature: str) -> NoReturn:
        with self._run.failing():
            raise UnsupportedFeature.of(feature)
