"""Where a command finds bundles, and the keys that write and read them."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Annotated, Any, Final, Self

import typer

from kryonix.backup.archive import Archive
from kryonix.backup.bundle import Bundle, unpack
from kryonix.backup.creation import Creation
from kryonix.backup.encryption import Identities, Recipients, is_private
from kryonix.backup.names import SUFFIX, BundleName
from kryonix.backup.store import BundleStore
from kryonix.cli.options import PlatformOptions, read_bytes
from kryonix.cli.site import Site, engine_of
from kryonix.engines.engine import StackSpec
from kryonix.errors import InvalidChoice
from kryonix.topology.errors import nearest, shown

_STORE: Final = "a folder, s3://BUCKET/PREFIX, gs://… or az://…"

_VARIABLE: Final = "KRYONIX_BACKUP_TO"

To = Annotated[
    str | None, typer.Option(envvar=_VARIABLE, show_envvar=False, metavar="DEST", help=f"Where they go: {_STORE}")
]
From = Annotated[
    str | None,
    typer.Option("--from", envvar=_VARIABLE, show_envvar=False, metavar="DEST", help=f"Where they are: {_STORE}"),
]
RecipientKeys = Annotated[
    list[str] | None,
    typer.Option("--recipient", metavar="KEY|FILE", help="Who can open them: a recipient or a file; repeatable."),
]
IdentityFiles = Annotated[
    list[Path] | None, typer.Option("--identity", metavar="FILE", help="Identity that opens it; repeatable.")
]
OptionalBundle = Annotated[
    str | None,
    typer.Argument(metavar="[BUNDLE]", help="As in `list`; without its time the newest. Or an address, or a file."),
]
BundleArgument = Annotated[
    str,
    typer.Argument(metavar="BUNDLE", help="As in `list`; without its time the newest. Or an address, or a file."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A bundle that a command names. `name` is None for a file whose path is no bundle's name."""

    where: str
    name: BundleName | None = None
    archive: Archive | None = None

    @classmethod
    def of(cls, archive: Archive, name: BundleName) -> Self:
        return cls(where=archive.store.address_of(str(name)), name=name, archive=archive)

    @property
    def text(self) -> str:
        """Return the bundle's short name."""
        return self.where if self.name is None else reference(self.name)

    @property
    def subject(self) -> str:
        """Return what the bundle is of, as far as its name tells."""
        return self.where if self.name is None else subject_of(self.name)

    def opened(self, identities: Identities) -> Bundle:
        """Return what is in the bundle. Raises InvalidBundle."""
        if self.archive is not None and self.name is not None:
            return self.archive.read(self.name, identities)
        return unpack(read_bytes(Path(self.where)), identities, self.where)


def creation_of(site: Site, archive: Archive, recipients: Recipients) -> Creation:
    """Return what makes the bundles of a site."""
    return Creation(
        stack=archive.stack,
        registry_dsn=site.registry_dsn,
        engine=site.engine,
        cells=site.cells,
        archive=archive,
        recipients=recipients,
    )


def find_bundle(platform: PlatformOptions, text: str, source: str | None) -> Reference:
    """Return the bundle of a file, an address, or a name as `kryonix backup list` prints it, without a time the newest.

    Raises InvalidChoice.
    """
    if isfile(text):  # noqa: PTH113  Path.is_file raises for a name that is too long
        return _at(str(Path(text).absolute())) or Reference(where=text)
    if "://" in text:
        if found := _at(text):
            return found
        raise InvalidChoice(
            f"{text} is not the address of a bundle, which ends as in dev/tenants/acme/20260501T020000Z{SUFFIX}. "
            "`kryonix backup list --json` prints addresses"
        )
    archive = archive_of(platform, source, "--from")
    name = BundleName.parse(f"{archive.stack}/{text}{SUFFIX}") or _newest(archive, text)
    return Reference.of(archive, name)


def chosen_bundles(platform: PlatformOptions, text: str | None, source: str | None, *, every: bool) -> list[Reference]:
    """Return one bundle, or the newest of the platform and of each tenant. Raises InvalidChoice."""
    if every == (text is not None):
        raise InvalidChoice("give a BUNDLE, or --all for the newest of the platform and of each tenant")
    if text is not None:
        return [find_bundle(platform, text, source)]
    archive = archive_of(platform, source, "--from")
    found = [Reference.of(archive, name) for name in archive.newest_of_all()]
    if not found:
        problem = f"there are no bundles of stack {archive.stack!r} in {archive.store.address}"
        raise InvalidChoice(f"{problem}. Choose with --stack and --from")
    return found


def _at(address: str) -> Reference | None:
    """Return the bundle of an address that ends as a bundle's name, else None."""
    parts = address.split("/")
    for count in (4, 3):  # of a tenant's name, and of the platform's
        if name := BundleName.parse("/".join(parts[-count:])):
            return Reference.of(Archive(BundleStore.open("/".join(parts[:-count])), name.stack), name)
    return None


def _newest(archive: Archive, text: str) -> BundleName:
    """Return the newest bundle of `platform` or `tenants/ID`. Raises InvalidChoice."""
    found = {subject_of(name): name for name in archive.newest_of_all()}
    subject = text.strip("/")
    if name := found.get(subject) or found.get(f"tenants/{subject}"):
        return name
    place = f"a bundle of stack {archive.stack!r} in {archive.store.address}"
    hint = nearest(text, found) if found else "there is none of this stack there; choose with --stack and --from"
    raise InvalidChoice(f"{shown(text)} is neither a file nor {place}; {hint}")


def reference(name: BundleName) -> str:
    """Return the name by which `show`, `verify` and `restore` take a bundle of the stack, `tenants/acme/TIME`."""
    return str(name).removeprefix(f"{name.stack}/").removesuffix(SUFFIX)


def subject_of(name: BundleName) -> str:
    """Return what a bundle is of, as a command names it: `platform`, or `tenants/ID`."""
    return reference(name).rpartition("/")[0]


def archive_of(platform: PlatformOptions, given: str | None, option: str) -> Archive:
    """Return the stack's bundles in a store: the given one, or that of the stack's schedule."""
    address = given or _output(platform, "backup_to")
    if not address:
        raise InvalidChoice(
            f"no {option} is given, and stack {platform.stack!r} has no `backup_to` among its outputs. Add {option} "
            f"with {_STORE}, or set KRYONIX_BACKUP_TO"
        )
    return Archive(BundleStore.open(str(address)), platform.stack.rpartition("/")[2])


def recipients_of(platform: PlatformOptions, given: list[str] | None) -> Recipients:
    """Return who can open a new bundle: the given recipients, or those of the stack's schedule."""
    if given:
        return Recipients.joined(map(_recipients, given))
    if found := _output(platform, "backup_recipients"):
        return Recipients.parse("\n".join(found), "backup_recipients")
    raise InvalidChoice(
        f"no --recipient is given, and stack {platform.stack!r} has none among its outputs. A bundle is encrypted: "
        "make a key with `kryonix backup keygen FILE`, and give the recipient it prints"
    )


def identities_of(files: list[Path] | None) -> Identities:
    """Return what can open a bundle. Raises InvalidChoice without a file."""
    if not files:
        raise InvalidChoice("a bundle is encrypted. Add --identity with the file that `kryonix backup keygen` wrote")
    return Identities.read(files)


def _recipients(text: str) -> Recipients:
    """Return a recipient, or those of a file."""
    if is_private(text) or text.startswith(("age1", "ssh-")):
        return Recipients.parse(text, "--recipient")
    return Recipients.read([Path(text)])


def _output(platform: PlatformOptions, name: str) -> Any:
    """Return an output of the stack, None where there is no project."""
    if not Path("Pulumi.yaml").is_file():
        return None
    return engine_of(platform).outputs(StackSpec(name=platform.stack)).get(name)
