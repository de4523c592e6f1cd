"""A registration request of the program, read and checked. Options the engine does not support are refused."""

from __future__ import annotations

from dataclasses import dataclass

from pulumi.runtime.proto import resource_pb2

from kryonix.engines.local import values
from kryonix.engines.local.errors import UnsupportedFeature
from kryonix.engines.local.resource import Resource, make_urn

Request = resource_pb2.RegisterResourceRequest


@dataclass(frozen=True, slots=True)
class Inherited:
    """Options inherited by children."""

    deleted_with: str = ""
    protect: bool | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """A resource as the program wants it; `draft` has its inputs, unchecked, and no outputs."""

    draft: Resource
    version: str
    aliases: tuple[str, ...]
    delete_before_replace: bool | None
    inherited: Inherited

    @classmethod
    def of(cls, request: Request, *, stack: str, project: str, parent: Inherited) -> Goal:
        """Read a request. Raise `UnsupportedFeature`."""
        _refuse(request)
        deps = {key: tuple(sorted(set(value.urns))) for key, value in sorted(request.propertyDependencies.items())}
        defined = request.deleteBeforeReplaceDefined or request.deleteBeforeReplace
        inherited = Inherited(
            deleted_with=request.deletedWith or parent.deleted_with,
            protect=request.protect if request.HasField("protect") else parent.protect,
        )
        draft = Resource(
            urn=make_urn(stack, project, request.parent, request.type, request.name),
            type=request.type,
            custom=request.custom,
            inputs=values.from_struct(request.object),
            parent=request.parent,
            provider=request.provider,
            dependencies=tuple(sorted(set(request.dependencies))),
            property_dependencies={key: urns for key, urns in deps.items() if urns},
            deleted_with=inherited.deleted_with,
            protect=bool(inherited.protect),
            additional_secret_outputs=tuple(request.additionalSecretOutputs),
            ignore_changes=tuple(request.ignoreChanges),
        )
        return cls(
            draft=draft,
            version=request.version,
            aliases=tuple(request.aliasURNs),
            delete_before_replace=request.deleteBeforeReplace if defined else None,
            inherited=inherited,
        )


def _refuse(request: Request) -> None:
    hooks = request.hooks
    given = {
        "remote components": request.remote,
        "transforms": request.transforms,
        "state_migrations": request.state_migrations,
        "resource hooks": any(getattr(hooks, descriptor.name) for descriptor in hooks.DESCRIPTOR.fields),
        "ignore_changes other than ['*']": set(request.ignoreChanges) - {"*"},
        "replace_on_changes": request.replaceOnChanges,
        "replace_with": request.replace_with,
        "replacement_trigger": request.HasField("replacement_trigger"),
        "retain_on_delete": request.retainOnDelete,
        "custom_timeouts": request.HasField("customTimeouts"),
        "import_": request.importId,
        "plugin_download_url": request.pluginDownloadURL,
        "parameterized packages": request.packageRef,
        "env_var_mappings": request.envVarMappings,
        "alias specs": request.aliases,
    }
    for feature, value in given.items():
        if value:
            raise UnsupportedFeature.of(feature, f"{request.type} '{request.name}'")
