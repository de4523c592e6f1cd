"""The engine's side of Pulumi's protocol, in process: `Monitor` and `LogSink`, as the SDK's stubs call them.

Method names are the protocol's. Unsupported requests are refused by name, never ignored.
"""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import Any, Final, NoReturn

from google.protobuf import empty_pb2  # type: ignore[import-untyped]  # protobuf ships no stubs
from pulumi.runtime.proto import engine_pb2, resource_pb2

from kryonix.engines.local import values
from kryonix.engines.local.errors import UnsupportedFeature
from kryonix.engines.local.goal import Goal, Inherited
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.registrar import Registrar
from kryonix.engines.local.resource import STACK_TYPE, Resource, make_urn
from kryonix.engines.local.run import Run
from kryonix.engines.local.stack_reference import (
    READ_RESOURCE_OUTPUTS,
    READ_STACK_OUTPUTS,
    STACK_REFERENCE_TYPE,
    StackReferences,
)

FEATURES: Final = [resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS, resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH]
SEVERITIES: Final[dict[int, Any]] = {
    engine_pb2.INFO: "info",
    engine_pb2.WARNING: "warning",
    engine_pb2.ERROR: "error",
}
EMPTY: Final = empty_pb2.Empty()
UNSUPPORTED: Final = {
    "Call": "the method {0.tok}",
    "StreamInvoke": "the streaming function {0.tok}",
    "RegisterStackTransform": "stack transforms",
    "RegisterStackInvokeTransform": "invoke transforms",
    "RegisterResourceHook": "resource hooks",
    "RegisterErrorHook": "error hooks",
    "RegisterPackage": "the parameterized package {0.name}",
}
"""Methods of the protocol, and the feature that each stands for."""


class Monitor:
    """Answer the program's registrations."""

    def __init__(self, run: Run, registrar: Registrar, references: StackReferences) -> None:
        self._run = run
        self._registrar = registrar
        self._references = references
        self._lock = Lock()
        self._inherited: dict[str, Inherited] = {}
        self.outputs: Properties = {}
        self.stack_urn = ""

    def GetDeploymentInfo(self, request: empty_pb2.Empty) -> resource_pb2.DeploymentInfo:
        """Return the engine's features; the SDK sends its requests accordingly."""
        target = self._run.target
        return resource_pb2.DeploymentInfo(
            project=target.project,
            stack=target.stack,
            organization="organization",
            dryRun=self._run.dry_run,
            parallel=self._run.parallel,
            supportedFeatures=FEATURES,
        )

    def SupportsFeature(self, request: resource_pb2.SupportsFeatureRequest) -> resource_pb2.SupportsFeatureResponse:
        """Answer for a single feature."""
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in ("secrets", "deletedWith"))

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> resource_pb2.RegisterResourceResponse:
        """Bring one resource to what the program wants."""
        with self._run.failing():
            resource = self._register(request)
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
            target = self._run.target
            inputs = values.from_struct(request.properties)
            resource = self._registrar.read(
                Resource(
                    urn=make_urn(target.stack, target.project, request.parent, request.type, request.name),
                    type=request.type,
                    custom=True,
                    id=request.id,
                    inputs=inputs,
                    outputs=self._references.read(str(values.plain(inputs.get("name", request.id)))),
                    parent=request.parent,
                    provider=request.provider,
                    dependencies=tuple(sorted(set(request.dependencies))),
                    external=True,
                    additional_secret_outputs=tuple(request.additionalSecretOutputs),
                )
            )
            self._run.step(resource, "read")
            self._run.report(resource, "read")
        return resource_pb2.ReadResourceResponse(
            urn=resource.urn, id=resource.id, properties=values.to_struct(resource.outputs)
        )

    def SignalAndWaitForShutdown(self, request: empty_pb2.Empty) -> empty_pb2.Empty:
        """Let the program end: there are no delete hooks to wait for."""
        return EMPTY

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

    def __getattr__(self, name: str) -> Any:
        """Return a method of the protocol to refuse its feature."""
        if name not in UNSUPPORTED:
            raise AttributeError(name)
        return lambda request: self._refuse(UNSUPPORTED[name].format(request))

    def commit_outputs(self) -> None:
        """Record the stack's outputs, after the program has succeeded."""
        self._set_outputs(self.stack_urn, self.outputs)

    def _register(self, request: resource_pb2.RegisterResourceRequest) -> Resource:
        self._run.check()
        target = self._run.target
        with self._lock:
            parent = self._inherited.get(request.parent, Inherited())
        goal = Goal.of(request, stack=target.stack, project=target.project, parent=parent)
        resource = self._registrar.register(goal)
        with self._lock:
            self._inherited[resource.urn] = goal.inherited
        if resource.type == STACK_TYPE:
            self.stack_urn = resource.urn
        return resource

    def _set_outputs(self, urn: str, outputs: Properties) -> None:
        resource = self._run.ledger.get(urn)
        if resource is not None:
            self._run.ledger.keep(replace(resource, outputs=outputs))

    def _refuse(self, feature: str) -> NoReturn:
        with self._run.failing():
            raise UnsupportedFeature.of(feature)


class LogSink:
    """Receive the program's messages. The thousands of debug messages are dropped unread."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._root = ""

    def Log(self, request: engine_pb2.LogRequest) -> empty_pb2.Empty:
        """Report a message of the program or the SDK."""
        severity = request.severity
        if severity != engine_pb2.DEBUG:
            self._run.say(SEVERITIES[severity], request.message, request.urn)
        return EMPTY

    def GetRootResource(self, request: Any) -> engine_pb2.GetRootResourceResponse:
        """Return the stack resource's URN."""
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def SetRootResource(self, request: engine_pb2.SetRootResourceRequest) -> engine_pb2.SetRootResourceResponse:
        """Store the stack resource's URN."""
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()

    def StartDebugging(self, request: Any) -> empty_pb2.Empty:
        """Do nothing: debuggers attach to this process as to any other."""
        return EMPTY

    def RequirePulumiVersion(self, request: Any) -> Any:
        """Accept the version: the SDK has checked it."""
        return engine_pb2.RequirePulumiVersionResponse()
