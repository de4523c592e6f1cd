"""`kryonix certificates ca`: print the platform's own CA, and change it in three steps."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kryonix.certificates.listeners import listeners_of
from kryonix.cli.groups import group
from kryonix.cli.options import Json, PlatformOptions, StackOptions
from kryonix.cli.output.console import print_result
from kryonix.cli.site import config_file, open_site, platform_command, project_folder
from kryonix.engines.stack_config import set_value
from kryonix.errors import InvalidChoice
from kryonix.topology.document import parse

_TRUSTED: Final = "kryonix:caTrusted"
_ISSUING: Final = "kryonix:caIssuing"
_OTHERS: Final = "kryonix:caCertificate"
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)

app = group("ca", "The platform's own CA: print it, and change it in three steps.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """The generations of the CA in a stack's config: those that clients trust, and the one that issues."""

    file: Path
    trusted: Sequence[int]
    issuing: int
    others: Sequence[str] = ()
    """The certificates in `kryonix:caCertificate`: CAs outside, which clients trust beside the platform's own (PEM)."""

    @classmethod
    def read(cls, platform: StackOptions) -> Generations:
        """Return the generations of a platform. Raises InvalidChoice if they are not such."""
        file = platform.config_file or config_file(platform.stack)
        values = {**_config(project_folder() / "Pulumi.yaml"), **_config(file)}
        trusted, issuing = values.get(_TRUSTED, [1]), values.get(_ISSUING, 1)
        found = [int(each) for each in trusted if str(each).isdigit()] if isinstance(trusted, list) else []
        if not found or not str(issuing).isdigit() or int(issuing) not in found:
            raise InvalidChoice(f"{file.name}: {_ISSUING} must be one of {_TRUSTED}, whole numbers from 1 on")
        return cls(file=file, trusted=found, issuing=int(issuing), others=_certificates(values.get(_OTHERS)))

    def own(self, bundle: Sequence[str]) -> Sequence[str]:
        """Return the platform's own CAs in a bundle. Raises InvalidChoice unless the config says as many."""
        found = [each for each in bundle if each not in self.others]
        if len(found) != len(self.trusted):
            problem = f"{_TRUSTED} is {list(self.trusted)} in {self.file.name}, and {len(found)} CA(s) are in use"
            raise InvalidChoice(f"{problem}. Run `kryonix up` first")
        return found


@platform_command(app, "print")
def print_ca(platform: PlatformOptions) -> None:
    """Print the certificates of the CAs that clients of the platform trust (PEM)."""
    sys.stdout.write("".join(_bundle(platform, open_site(platform).outputs)))


@platform_command(app)
def rotate(platform: StackOptions, json_output: Json = False) -> None:
    """Step 1 of 3: have clients trust a new CA beside the one that issues."""
    found, bundle = Generations.read(platform), _bundle(platform, open_site(platform).outputs)
    if len(found.trusted) > 1:
        step = "use" if found.issuing != found.trusted[-1] else "retire"
        problem = f"a change of the CA is under way: {_TRUSTED} is {list(found.trusted)}"
        raise InvalidChoice(f"{problem}. The next step is `kryonix certificates ca {step}`")
    found.own(bundle)
    trusted = [*found.trusted, found.trusted[-1] + 1]
    following = (
        "Give the bundle to clients outside (`kryonix certificates ca print`), and when all have it, "
        f"`kryonix certificates ca use --stack {platform.stack}`."
    )
    _change(found, platform, json_output, _TRUSTED, trusted, following)


@platform_command(app)
def use(platform: StackOptions, json_output: Json = False) -> None:
    """Step 2 of 3: have the new CA issue all certificates."""
    found, bundle = Generations.read(platform), _bundle(platform, open_site(platform).outputs)
    newest = found.trusted[-1]
    if len(found.trusted) < 2:
        raise InvalidChoice(f"there is no new CA: {_TRUSTED} is {list(found.trusted)}. `ca rotate` adds one")
    if found.issuing == newest:
        raise InvalidChoice(f"the new CA issues already: {_ISSUING} is {newest}. The next step is `ca retire`")
    found.own(bundle)
    following = (
        "The keeper then renews all certificates within a minute. Give each application that has a certificate of its "
        f"own a new one, then `kryonix certificates ca retire --stack {platform.stack}`."
    )
    _change(found, platform, json_output, _ISSUING, newest, following)


@platform_command(app)
def retire(platform: StackOptions, json_output: Json = False) -> None:
    """Step 3 of 3: have clients trust the new CA only. Refused while an address serves what the old one issued."""
    outputs = open_site(platform).outputs
    found, bundle = Generations.read(platform), _bundle(platform, outputs)
    newest = found.trusted[-1]
    if len(found.trusted) < 2:
        raise InvalidChoice(f"there is one CA only: {_TRUSTED} is {list(found.trusted)}. `ca rotate` adds a new one")
    if found.issuing != newest:
        raise InvalidChoice(f"the old CA still issues: {_ISSUING} is {found.issuing}. The next step is `ca use`")
    remaining = "".join([found.own(bundle)[-1], *found.others])
    for name, listener in listeners_of(outputs).items():
        if refused := listener.refused(remaining):
            remedy = f"Run `kryonix up --stack {platform.stack}`, and see `kryonix certificates list`"
            raise InvalidChoice(f"{name} would be refused by clients that trust the new CA only ({refused}). {remedy}")
    following = "Clients that still have the old bundle go on: the new CA is in it."
    _change(found, platform, json_output, _TRUSTED, [newest], following)


def _change(
    found: Generations, platform: StackOptions, json_output: bool, key: str, value: Any, following: str
) -> None:
    set_value(found.file, key, value)
    generations = {"trusted": list(found.trusted), "issuing": found.issuing}
    generations["trusted" if key == _TRUSTED else "issuing"] = value
    said = f"{key} is {json.dumps(value)} in {found.file.name}. Run `kryonix up --stack {platform.stack}`. {following}"
    print_result({**generations, "next": said}, said.replace("[", r"\["), json_output)


def _bundle(platform: PlatformOptions, outputs: Mapping[str, Any]) -> list[str]:
    """Return the CAs that clients trust. Raises InvalidChoice if the platform has none of its own."""
    found = _certificates(outputs.get("ca_certificate"))
    if not found:
        raise InvalidChoice(f"the platform {platform.stack!r} has no CA of its own. Turn TLS on (docs/platform.md)")
    return found


def _certificates(pem: object) -> list[str]:
    """Return the certificates of a text, without what is between them."""
    return [each.rstrip("\n") + "\n" for each in _CERTIFICATE.findall(str(pem or ""))]


def _config(file: Path) -> dict[str, Any]:
    """Return a project's defaults, or a stack's values, by full key."""
    if not file.is_file():
        return {}
    config = (parse(file.read_bytes(), file.name).value or {}).get("config") or {}
    values = {
        key: each["default"] if isinstance(each, dict) and "default" in each else each for key, each in config.items()
    }
    return {key if ":" in key else f"kryonix:{key}": value for key, value in values.items()}
