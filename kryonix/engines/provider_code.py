"""The code that a deployment brings along, checked without loading it.

The SDK stores a dynamic resource's provider as a pickle, which an engine loads: whoever writes it runs code there. The
program's own providers are references to classes of `components`, and nothing else.
"""

from __future__ import annotations

import base64
import json
import pickletools
import re
from collections.abc import Mapping
from typing import Any, Final

from kryonix.engines.deployments import all_entries

KEY: Final = "__provider"
_REFERENCE: Final = [
    ("SHORT_BINUNICODE", re.compile(r"components\.[a-z_]+")),
    ("SHORT_BINUNICODE", re.compile(r"_\w+Provider")),
]
_MAKE: Final = ["STACK_GLOBAL", "EMPTY_TUPLE", "NEWOBJ", "STOP"]
_NEUTRAL: Final = ("PROTO", "FRAME", "MEMOIZE")
_DOWNLOAD: Final = "pluginDownloadURL"
"""An input of a provider: the address of a program that the Pulumi CLI fetches and runs."""


def foreign_code(deployment: Mapping[str, Any]) -> str:
    """Return the URN of the first resource whose provider is not one of this program's classes; empty if none."""
    for resource in all_entries(deployment):
        for values in (resource.get("inputs") or {}, resource.get("outputs") or {}):
            if KEY in values and not _is_own(values[KEY]):
                return str(resource["urn"])
    return ""


def foreign_download(deployment: Mapping[str, Any]) -> str:
    """Return the URN of the first resource that names a program to download; empty if none."""
    return next((str(each["urn"]) for each in all_entries(deployment) if _DOWNLOAD in json.dumps(each)), "")


def _is_own(code: Any) -> bool:
    """Return True for a pickle that makes an instance of a provider class of `components`, without arguments."""
    try:
        found = [(op.name, value) for op, value, _ in pickletools.genops(base64.b64decode(code, validate=True))]
    except (TypeError, ValueError):
        return False
    steps = [step for step in found if step[0] not in _NEUTRAL]
    names, rest = steps[: len(_REFERENCE)], [name for name, _ in steps[len(_REFERENCE) :]]
    return rest == _MAKE and all(
        name == expected and pattern.fullmatch(str(value))
        for (name, value), (expected, pattern) in zip(names, _REFERENCE, strict=True)
    )
