"""The engine's side of Pulumi's protocol, in process: `ResourceMonitor` and `Engine`, as the SDK's stubs call them.

Method names are the protocol's. Whatever is not here, the SDK is refused by name, never silently ignored.
"""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import Any, NoReturn

from google.protobuf import empty_pb2  # type: ignore[import-untyped]  # protobuf ships no stubs
from pulumi.runtime.proto import engine_pb2, resource_pb2

from kryonix.engines.local import urn as urns
from kryonix.engines.local import values
from kryonix.engines.local.deployer import Deployer
from kryonix.engines.local.errors import UnsupportedFeature
from kryonix.engines.local.goal import Goal, Inherited
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.recovery import adopt
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Run
from kryonix.engines.local.stack_reference import (
    READ_RESOURCE_OUTPUTS,
    READ_STACK_OUTPUTS,
    STACK_REFERENCE_TYPE,
    StackReferences,
)

__all__ = ["Engine", "Monitor"]

FEATURES = [resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS, resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH]
SEVERITIES: dict[int, Any] = {engine_pb2.INFO: "info", engine_pb2.WARNING: "warning", engine_pb2.ERROR: "error"}


class Monitor:
    """Answers the program's registrations."""

    def __init__(self, run: Run, deployer: Deployer, references: StackReferences) -> None:
        self._run = run
        self._deployer = deployer
        self._references = references
        self._lock = Lock()
        self._inherited: dict[str, Inherited] = {}
        self.outputs: Properties = {}
        self.stack_urn = ""

    def GetDeploymentInfo(self, request: empty_pb2.Empty) -> resource_pb2.DeploymentInfo:
        """What the engine can do, which decides what the SDK sends."""
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
        """The same, asked one by one."""
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in ("secrets", "deletedWith"))

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> resource_pb2.RegisterResourceResponse:
        """Bring one resource to what the program wants."""
        try:
            resource = self._register(request)
        except BaseException as error:
            self._run.fail(error)
            raise
        known = not self._run.dry_run or resource.id != values.UNKNOWN_TEXT
        return resource_pb2.RegisterResourceResponse(
            urn=resource.urn,
            id=resource.id if known else "",
            object=values.to_struct(resource.outputs if resource.custom else {}),
        )

    def RegisterResourceOutputs(self, request: resource_pb2.RegisterResourceOutputsRequest) -> empty_pb2.Empty:
        """A component's outputs; the stack's own wait until the whole program has succeeded."""
        try:
            outputs = values.from_struct(request.outputs)
            if request.urn == self.stack_urn:
                self.outputs = outputs
            else:
                self._set_outputs(request.urn, outputs)
        except BaseException as error:
            self._run.fail(error)
            raise
        return empty_pb2.Empty()

    def ReadResource(self, request: resource_pb2.ReadResourceRequest) -> resource_pb2.ReadResourceResponse:
        """A StackReference, or a resource that exists already and is not managed here."""
        try:
            resource = self._read(request)
        except BaseException as error:
            self._run.fail(error)
            raise
        return resource_pb2.ReadResourceResponse(
            urn=resource.urn, id=resource.id, properties=values.to_struct(resource.outputs)
        )

    def SignalAndWaitForShutdown(self, request: empty_pb2.Empty) -> empty_pb2.Empty:
        """The program has no more to say. There are no delete hooks here for which it would have to stay."""
        return empty_pb2.Empty()

    def Invoke(self, request: resource_pb2.ResourceInvokeRequest) -> resource_pb2.ResourceInvokeResponse:
        """Functions: only the engine's own, which read the outputs of a stack and of its resources."""
        given = values.plain(values.from_struct(request.args))
        if request.tok == READ_STACK_OUTPUTS:
            answer = self._references.read(str(given["name"]))
        elif request.tok == READ_RESOURCE_OUTPUTS:
            answer = self._references.read_resources(str(given["stackName"]))
        else:
            self._refuse(f"the function {request.tok}")
        return resource_pb2.ResourceInvokeResponse(**{"return": values.to_struct(answer)})

    def Call(self, request: Any) -> NoReturn:
        """Methods of resources: none."""
        self._refuse(f"the method {request.tok}")

    def StreamInvoke(self, request: Any) -> NoReturn:
        """Streaming functions: none."""
        self._refuse(f"the streaming function {request.tok}")

    def RegisterStackTransform(self, request: Any) -> NoReturn:
        """Transforms: none."""
        self._refuse("stack transforms")

    def RegisterStackInvokeTransform(self, request: Any) -> NoReturn:
        """Transforms: none."""
        self._refuse("invoke transforms")

    def RegisterResourceHook(self, request: Any) -> NoReturn:
        """Hooks: none."""
        self._refuse("resource hooks")

    def RegisterErrorHook(self, request: Any) -> NoReturn:
        """Hooks: none."""
        self._refuse("error hooks")

    def RegisterPackage(self, request: resource_pb2.RegisterPackageRequest) -> NoReturn:
        """Parameterized packages: none."""
        self._refuse(f"the parameterized package {request.name}")

    def commit_outputs(self) -> None:
        """Note the stack's outputs, once the program has succeeded."""
        self._set_outputs(self.stack_urn, self.outputs)

    def _register(self, request: resource_pb2.RegisterResourceRequest) -> Resource:
        self._run.check()
        target = self._run.target
        with self._lock:
            parent = self._inherited.get(request.parent, Inherited())
        goal = Goal.of(request, stack=target.stack, project=target.project, parent=parent)
        resource = self._deployer.register(goal)
        with self._lock:
            self._inherited[goal.urn] = goal.inherited
        if goal.type == urns.STACK_TYPE:
            self.stack_urn = goal.urn
        return resource

    def _set_outputs(self, urn: str, outputs: Properties) -> None:
        resource = self._run.ledger.get(urn)
        if resource is not None:
            self._run.ledger.keep(replace(resource, outputs=outputs))

    def _read(self, request: resource_pb2.ReadResourceRequest) -> Resource:
        self._run.check()
        target = self._run.target
        inputs = values.from_struct(request.properties)
        resource = Resource(
            urn=urns.make(target.stack, target.project, request.parent, request.type, request.name),
            type=request.type,
            custom=True,
            id=request.id,
            inputs=inputs,
            parent=request.parent,
            provider=request.provider,
            dependencies=tuple(sorted(set(request.dependencies))),
            external=True,
            additional_secret_outputs=tuple(request.additionalSecretOutputs),
        )
        if request.type == STACK_REFERENCE_TYPE:
            outputs = self._references.read(str(values.plain(inputs.get("name", request.id))))
            read = self._deployer.read(replace(resource, outputs=outputs))
        else:
            read = self._deployer.read(self._existing(resource, request.version))
        self._run.step(read, "read")
        self._run.tell(read, "read")
        return read

    def _existing(self, resource: Resource, version: str) -> Resource:
        if not resource.provider:
            package = urns.package_of(resource.type)
            resource = replace(resource, provider=self._deployer.default_provider(package, version))
        handler = self._run.providers.handler(resource)
        with self._run.working(resource, "read"):
            live = handler.read(resource.id, values.plain(resource.inputs), {})
            if live is None:
                raise UnsupportedFeature(f"no such resource: {resource.id}")
        return adopt(resource, live, handler)

    def _refuse(self, what: str) -> NoReturn:
        error = UnsupportedFeature(
            f"The program asks for {what}, which the local engine does not implement: "
            "leave it out, or run the program with the Pulumi CLI."
        )
        self._run.fail(error)
        raise error


class Engine:
    """Takes the program's messages. Debug messages come by the thousand and are dropped unread."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._root = ""

    def Log(self, request: engine_pb2.LogRequest) -> empty_pb2.Empty:
        """A message of the program or the SDK."""
        severity = request.severity
        if severity != engine_pb2.DEBUG:
            self._run.say(SEVERITIES[severity], request.message, request.urn)
        return EMPTY

    def GetRootResource(self, request: Any) -> engine_pb2.GetRootResourceResponse:
        """The stack resource's URN."""
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def SetRootResource(self, request: engine_pb2.SetRootResourceRequest) -> engine_pb2.SetRootResourceResponse:
        """Remember the stack resource's URN."""
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()

    def StartDebugging(self, request: Any) -> empty_pb2.Empty:
        """Debuggers attach to this process like to any other."""
        return EMPTY

    def RequirePulumiVersion(self, request: Any) -> Any:
        """The SDK's own version is the only one there is; whatever it accepts will do."""
        return engine_pb2.RequirePulumiVersionResponse()


EMPTY = empty_pb2.Empty()
